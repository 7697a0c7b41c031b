"""Rules that tell a healthy run from a collapsing one, from the measures of :mod:`mmmim.evaluation.measures.health`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

#: RankMe below this share of the largest so far. Healthy runs fall as well, features that organise themselves use fewer
#: directions than random ones: to 0.34 at the lowest that was measured, collapsed ones to 0.07.
RANKME_SHARE = 0.25

#: RankMe or prototypes in use below this number, whatever was before: 1 is a single direction or prototype, and noise
#: on it counts a little.
EFFECTIVE_FLOOR = 1.5

#: Mean cosine of patches more than this part of the way from the lowest so far to 1.
COSINE_WAY = 0.9

#: Mean cosine of patches above this, whatever was before.
COSINE_CEILING = 0.99

#: Positional share more than this part of the way from the lowest so far to 1. Below, targets still tell more about
#: the image than about the position.
POSITIONAL_WAY = 0.5

#: Positional share above this, whatever was before.
POSITIONAL_CEILING = 0.95

#: Prototypes in use below this share of the most so far. Methods without balancing leave many of them idle.
PROTOTYPES_SHARE = 0.1

#: Entropy of the targets, as a share of the largest possible, above this.
UNIFORM_ENTROPY = 0.98

#: Mean gradient norm since the last report over the median of those before, below and above these. It falls by a
#: factor of ten in the first iterations of a healthy run.
GRADIENT_VANISHED, GRADIENT_EXPLODED = 0.01, 10.0


class _Rule(NamedTuple):
    """A threshold: what is wrong with a quantity, and what to try."""

    quantity: str
    """Part of the names of the quantities."""
    high_is_healthy: bool
    crossed: Callable[[float, float], bool]
    """Of the value and the healthiest so far."""
    warning: str


_RULES = [
    _Rule(
        '_rankme_',
        True,
        lambda value, best: value < max(RANKME_SHARE * best, EFFECTIVE_FLOOR),
        'Dimensional collapse: features use few of their directions. Lower the learning rate or lengthen its warm-up; '
        'with a teacher, move its momentum closer to 1.',
    ),
    _Rule(
        '_cosine_patches',
        False,
        lambda value, best: value > min(best + COSINE_WAY * (1 - best), COSINE_CEILING),
        'Complete collapse: all patches of all images have nearly the same feature. Look at the images first; with a '
        'teacher, move its momentum closer to 1 or balance the targets; lower the learning rate.',
    ),
    _Rule(
        '_positional_share',
        False,
        lambda value, best: value > min(best + POSITIONAL_WAY * (1 - best), POSITIONAL_CEILING),
        'Positional collapse: targets tell where a patch is rather than what it shows. Balance each position on its '
        'own (OnlineClustering: positional=True), and augment by crops.',
    ),
    _Rule(
        '_prototypes_in_use',
        True,
        lambda value, best: value < max(PROTOTYPES_SHARE * best, EFFECTIVE_FLOOR),
        'Prototype collapse: few prototypes have nearly all of the targets. Balance them (more Sinkhorn-Knopp '
        'iterations), use larger batches or fewer prototypes.',
    ),
    _Rule(
        '_target_entropy',
        False,
        lambda value, best: value > UNIFORM_ENTROPY,
        'Uniform targets: they tell nothing about the patches. Lower the target temperature or the learning rate.',
    ),
]


def diagnose(values: dict[str, float], healthiest: dict[str, float]) -> dict[str, str]:
    """What is wrong with a report.

    Args:
        values: The report, by name.
        healthiest: The healthiest value of each quantity before; quantities that it lacks cannot be judged.

    Returns:
        Warnings by their kind.
    """
    found: dict[str, str] = {}
    for rule in _RULES:
        crossed = [
            f'{name} {value:.4g} ({healthiest[name]:.4g} before)'
            for name, value in values.items()
            if rule.quantity in name and name in healthiest and rule.crossed(value, healthiest[name])
        ]
        if crossed:
            found[rule.quantity] = f'{rule.warning} [{", ".join(crossed)}]'
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        found['finite'] = (
            f'Not finite: {", ".join(bad)}. Steps with such gradients are skipped, so weights stay as they are; if it '
            'lasts, resume an earlier checkpoint with a lower learning rate or in fp32, and look at the images.'
        )
    return found


def diagnose_gradients(norm: float, median: float) -> dict[str, str]:
    """What is wrong with the mean gradient norm since the last report, given the median of those before."""
    numbers = f'[mean norm {norm:.4g}, median before {median:.4g}]'
    if norm <= GRADIENT_VANISHED * median:
        return {'vanished': f'Gradients vanished: nothing is learned, see the other values for a collapse. {numbers}'}
    if norm >= GRADIENT_EXPLODED * median:
        return {'exploded': f'Gradients exploded: lower the learning rate, or set optim_wrapper.clip_norm. {numbers}'}
    return {}


def update_healthiest(healthiest: dict[str, float], values: dict[str, float]) -> dict[str, float]:
    """With the values of another report; quantities that no rule judges stay out."""
    updated = dict(healthiest)
    for rule in _RULES:
        for name, value in values.items():
            if rule.quantity in name and math.isfinite(value):
                updated[name] = (max if rule.high_is_healthy else min)(value, updated.get(name, value))
    return updated
