"""Standardise, choose, fit, score: what every probe goes through, on a cache of a data set or on images in memory.

CAPI's protocol (arXiv 2502.08769, table 3 and A). Legend as in ``cache.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmmim.features.cache import Samples
from mmmim.features.patch_labels import mode
from mmmim.utils import InputError

from .fitted import Probe, Setting, share
from .rows import Standardizer
from .selection import first_best


@dataclass(frozen=True)
class Part:
    """Some images of a data set.

    Attributes:
        samples: The data set.
        images: Indices of the images, in their order.
    """

    samples: Samples
    images: np.ndarray

    @classmethod
    def whole(cls, samples: Samples) -> Part:
        """All images of a data set."""
        return cls(samples, np.arange(len(samples.features)))


def held_out_parts(samples: Samples, held_out: float, seed: int) -> tuple[Part, Part]:
    """The images to fit on while a setting is chosen, and those to score it on, see :func:`held_out_images`."""
    fitted, scored = held_out_images(len(samples.features), held_out, seed)
    return Part(samples, fitted), Part(samples, scored)


def held_out_images(n: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide images into those to fit on while a setting is chosen, and those to score it on.

    Args:
        n: Number of images.
        held_out: Share of the images to score on.
        seed: Seed of the choice of images.

    Returns:
        Indices of both, sorted.

    Raises:
        InputError: There are too few images.
    """
    number = max(1, round(held_out * n))
    if not 0 < held_out < 1 or number >= n:
        raise InputError(f'test_cfg.held_out={held_out} of {n} images leaves none to fit on or none to score.')
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[number:]), np.sort(order[:number])


def fit_chosen(
    probe: Probe,
    train: Samples,
    device: torch.device,
    by: str | None,
    held_out: float,
    seed: int,
    told: Callable[[list[dict[str, Any]]], None] = lambda grid: None,
) -> tuple[list[Setting], list[dict[str, Any]]]:
    """Choose a setting on held-out images and fit it on all of them; by all processes.

    With ``standardize='once'`` features are standardised by the images that are not held out, whether or not there is
    something to choose, so that the score of a setting does not depend on what it is compared with.

    Args:
        probe: The probe, with its grid of settings.
        train: All images for fitting.
        device: Device to compute on.
        by: Score that chooses, one of the probe's; None to fit every setting.
        held_out: Share of the images to score on.
        seed: Seed of the choice of these images.
        told: Called with the grid and its scores before all images are fitted, which may take long.

    Returns:
        Settings that the probe is fitted with now, and the grid with the scores: empty where nothing was chosen.

    Raises:
        InputError: There are too few images.
    """
    whole, settings, grid = Part.whole(train), probe.grid, list[dict[str, Any]]()
    fitted, scored = (whole, whole) if by is None else held_out_parts(train, held_out, seed)
    scale = probe.scale_of(fitted.samples, fitted.images, device) if probe.standardize == 'once' else None
    if by is not None and len(settings) > 1:
        place, grid = choose(probe, fitted, scored, by, device, scale)
        told(grid)
        settings = [settings[place]]
    probe.fit(whole.samples, whole.images, settings, device, scale)
    return settings, grid


def choose(
    probe: Probe, fitted: Part, scored: Part, by: str, device: torch.device, scale: Standardizer | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Choose a setting by its score on images that it was not fitted on; by all processes.

    Args:
        probe: The probe, with its grid of settings, all of which it is fitted with afterwards.
        fitted: The images to fit on.
        scored: The images to score on.
        by: Name of the score that chooses.
        device: Device to compute on.
        scale: Standardisation that is fitted already.

    Returns:
        Place of the best setting, the first of several, and the grid with the scores.

    Raises:
        InputError: The data have no such score, as depths have no angle.
    """
    probe.fit(fitted.samples, fitted.images, probe.grid, device, scale)
    found = scores(probe, scored)
    if by not in found[0]:
        raise InputError(f'test_cfg.choose_by={by!r} is no score of these data, which have {" and ".join(found[0])}.')
    rows = [{**setting, **each} for setting, each in zip(probe.grid, found, strict=True)]
    return first_best([probe.sign(by) * row[by] for row in rows]), rows


def scores(probe: Probe, part: Part) -> list[dict[str, float]]:
    """Scores of every setting that a probe is fitted with, by all processes that it was fitted by."""
    samples, images = part.samples, share(part.images) if probe.distributed else part.images
    tables, start = [probe.empty_table(samples) for _ in probe.settings], 0
    rows = samples.rows(images)
    for predictions in probe.predict(samples, images):
        own = rows[start : start + len(predictions[0])]
        for table, predicted in zip(tables, predictions, strict=True):
            probe.count(table, predicted, samples, own)
        start += len(own)
    if probe.distributed:
        for table in tables:
            all_reduce(table)
    return [probe.scores_of(table) for table in tables]


def in_memory(features: Tensor, labels: Tensor, classes: int, ignored: Sequence[int] = ()) -> Samples:
    """Samples of features and labels that are in memory, each an image of its own.

    Args:
        features: ``[n, D]`` on the CPU.
        labels: Class of every sample, ``[n]``, or those of its q pixels, ``[n, q]``, integers in ``[0, classes)``.
        classes: Number of classes, K.
        ignored: Labels that do not count; they become one.
    """
    labels = labels.view(len(labels), 1, -1)
    if ignored:
        labels = torch.where(torch.isin(labels, torch.tensor(ignored)), classes, labels)
    majority = mode(labels, classes + 1)
    return Samples(features.numpy()[:, None], labels.numpy(), majority.numpy(), classes, classes)


def scored_alone(
    probe: Probe,
    train: Samples,
    test: Samples,
    val: Samples | None = None,
    by: str = 'aAcc',
    scale: Standardizer | None = None,
) -> dict[str, float]:
    """Scores of a probe on images in memory, fitted by this process alone and in silence.

    Args:
        probe: The probe; a single setting, unless there are images to choose on.
        train: Images to fit on.
        test: Images to score.
        val: Images to choose the setting on, which stay out of the fit.
        by: Score that chooses.
        scale: Standardisation that is fitted already.
    """
    probe.distributed, device, fitted = False, torch.device('cpu'), Part.whole(train)
    if val is None:
        probe.fit(fitted.samples, fitted.images, probe.grid, device, scale)
    else:
        place, _ = choose(probe, fitted, Part.whole(val), by, device, scale)
        probe.keep(place)
    (found,) = scores(probe, Part.whole(test))
    return found
