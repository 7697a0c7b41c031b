"""CAPI's probes (arXiv 2502.08769): many heads trained at once, and the choice among them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.engine.head_optimizers import HeadAdamW
from mmmim.engine.schedules import closed_cosine
from mmmim.evaluation.probes.selection import best_of_each, count_accepted
from mmmim.evaluation.probes.sweep import ProbeSweep, probe_sources
from mmmim.evaluation.probes.trained import train_probe
from mmmim.utils import InputError


def is_sweep(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has heads by source and a grid of rates and decays."""
    return 'head_order' in about and {'learning_rates', 'weight_decays'} <= set(about.get('settings', {}))


def is_choice(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has heads by source, logits and accepted labels."""
    return 'head_order' in about and {'in.logits', 'in.targets'} <= set(arrays)


def exempt(name: str) -> bool:
    """Biases of keys have no gradient: recorded ones followed the rounding of zero."""
    return name.endswith('.kv.bias.keys')


def split(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Biases of keys and of values by themselves."""
    found: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        if name.startswith('final.') and name.endswith('.kv.bias'):
            half = len(value) // 2
            found |= {f'{name}.keys': value[:half], f'{name}.values': value[half:]}
        else:
            found[name] = value
    return found


def _sweep(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], features: dict[str, Tensor]) -> ProbeSweep:
    """The heads of the recording with its initial weights."""
    settings = about['settings']
    shapes = {source: value.shape[2:] for source, value in features.items()}
    sweep = ProbeSweep(shapes, settings['classes'], settings['learning_rates'], settings['weight_decays'])
    order = [(head['source'], head['lr'], head['wd']) for head in about['head_order']]
    if order != [(source, *pair) for source in features for pair in sweep.grid]:
        raise InputError('head_order is not every source with the grid of rates and decays, the decay changing first.')
    with torch.no_grad():
        for source, probe in sweep.probes.items():
            for name, parameter in probe.named_parameters():
                parameter.copy_(torch.from_numpy(arrays[f'init.{source}.{_recorded(name)}']))
    return sweep


def _recorded(name: str) -> str:
    """Name of a parameter in the recording: linear heads are a layer there, too."""
    return f'linear.{name}' if name in ('weight', 'bias') else name


def replay_sweep(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Losses, logits, schedule, settings and final weights of all heads."""
    settings = about['settings']
    cls, patches, labels = (torch.from_numpy(arrays[f'in.{name}']) for name in ('global', 'featmap', 'labels'))
    steps = [probe_sources(one, tokens.flatten(1, 2)) for one, tokens in zip(cls, patches, strict=True)]
    present = list(dict.fromkeys(head['source'] for head in about['head_order']))
    if unknown := [source for source in present if source not in steps[0]]:
        raise InputError(f'head_order has the source {unknown[0]!r}: there are {", ".join(steps[0])}.')
    features = {source: torch.stack([step[source] for step in steps]) for source in present}
    sweep = _sweep(about, arrays, features)
    pairs = sweep.grid
    batch = settings['batch'] * settings['world_size']
    decaying, free = sweep.decaying()
    optimizer = HeadAdamW(
        [{'params': decaying, 'decays': [decay for _, decay in pairs]}, {'params': free, 'decays': 0.0}],
        rates=[rate * batch / 256 for rate, _ in pairs],
    )
    total = settings['n_iters']
    factors = [closed_cosine(i, total, warmup_ratio=settings['warmup_iters'] / total) for i in range(total)]
    run = settings['steps_run']
    losses = torch.stack(list(train_probe(sweep, optimizer, zip(steps, labels, strict=True), factors[:run])))
    with torch.no_grad():
        logits = sweep(steps[-1])
    computed = {
        'out.loss': losses.mean(dim=1).numpy(),
        'out.loss_per_head': losses.numpy(),
        'out.logits_after': logits.transpose(1, 2).numpy(),
        'sched.all': np.array(factors),
        'heads.lr': np.array([rate for _ in present for rate, _ in pairs]),
        'heads.wd': np.array([decay for _ in present for _, decay in pairs]),
    }
    for place, (_, probe) in enumerate(sweep.probes.items()):
        for name, parameter in probe.named_parameters():
            for i, value in enumerate(parameter.detach().numpy(), place * len(pairs)):
                computed[f'final.{i}.{_recorded(name)}'] = value
    return {**computed, **_thinned(computed, arrays)}


def _thinned(computed: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of weights of which every so many were recorded: ``final.12.kv.weight.rows0::16``."""
    found = {}
    for name in arrays:
        whole, _, rows = name.partition('.rows')
        if rows and whole in computed:
            start, _, stride = rows.partition('::')
            found[name] = computed[whole][int(start) :: int(stride)]
    return found


def replay_choice(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Accuracies ``[K]`` of logits ``[batches, K, C, B]``, and which head of each source is kept."""
    logits, targets = (torch.from_numpy(arrays[f'in.{name}']) for name in ('logits', 'targets'))
    counts = [count_accepted(a.argmax(dim=1), b) for a, b in zip(logits, targets, strict=True)]
    right, labelled = (torch.stack(list(each)).sum(dim=0) for each in zip(*counts, strict=True))
    accuracy = right / labelled
    sources = [head['source'] for head in about['head_order']]
    kept: np.ndarray = np.zeros(len(sources), dtype=bool)
    kept[list(best_of_each(sources, accuracy.tolist()).values())] = True
    return {'out.acc': accuracy.numpy(), 'out.best': kept}
