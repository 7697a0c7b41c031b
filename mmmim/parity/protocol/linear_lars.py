"""Linear probes trained by LARS: MAE's (arXiv 2111.06377) and PiLaMIM's (Lee et al., 2025)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.engine.lars import LARS
from mmmim.engine.schedules import epochwise_min_cosine, warmup_cosine
from mmmim.evaluation.probes.trained import ProbeHead, train_probe


def is_mae(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has a trust coefficient and variants of weight decay."""
    return {'trust', 'variants', 'warmup_epochs'} <= set(about.get('settings', {}))


def is_pilamim(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has PiLaMIM's eta, and epochs of which some are run."""
    return {'eta', 'epochs_run', 'total_epochs'} <= set(about.get('settings', {}))


def _trained(
    arrays: Mapping[str, np.ndarray], bias: np.ndarray, options: Mapping[str, Any], factors: list[float]
) -> tuple[ProbeHead, LARS, dict[str, Any]]:
    """A probe after a step per factor, its optimiser, and the losses and the logits of the last batch."""
    weight, (x, labels) = arrays['init.weight'], (torch.from_numpy(arrays[f'in.{n}']) for n in ('x', 'labels'))
    probe = ProbeHead(weight.shape[1], weight.shape[0])
    probe.linear.load_state_dict({'weight': torch.from_numpy(weight), 'bias': torch.from_numpy(bias)})
    optimizer = LARS(probe.parameters(), **options)
    losses = list(train_probe(probe.train(), optimizer, zip(x, labels, strict=True), factors))
    with torch.no_grad():
        logits = probe.eval()(x[-1])
    return probe, optimizer, {'loss': torch.stack(losses), 'eval_logits': logits}


def _named(variant: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {f'out.{variant}.{name}': value.detach().numpy() for name, value in values.items()}


def replay_mae(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Losses, layer, statistics, momenta and logits of every variant, and the rates."""
    settings = about['settings']
    lr, total = settings['lr'], settings['epochs'] * settings['iterations_per_epoch']
    shape = {'final': settings['min_lr'] / lr, 'warmup_ratio': settings['warmup_epochs'] / settings['epochs']}
    factors = [warmup_cosine(step, total, **shape) for step in range(settings['steps'])]
    options = {'lr': lr, 'momentum': settings['momentum'], 'eta': settings['trust']}
    computed = {'out.lr': np.array([lr * factor for factor in factors])}
    for variant, decay in settings['variants'].items():
        options |= {'weight_decay': decay, 'scaled': 'gradient', 'vectors': False}
        probe, optimizer, values = _trained(arrays, arrays['init.bias'], options, factors)
        for name, parameter in probe.linear.named_parameters():
            values |= {name: parameter, f'mu_{name}': optimizer.state[parameter]['momentum_buffer']}
        values |= {'bn_mean': probe.norm.running_mean, 'bn_var': probe.norm.running_var}
        computed |= _named(variant, values)
    return computed


def replay_pilamim(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Losses, layer and logits, with the recorded biases and with zeros to start from, and the rates."""
    settings = about['settings']
    epochs, each = settings['total_epochs'], settings['iterations_per_epoch']
    options = {'lr': settings['lr'], 'momentum': settings['momentum'], 'weight_decay': settings['weight_decay']}
    options |= {'eta': settings['eta'], 'repeat_first': True}

    def factor(step: int) -> float:
        return epochwise_min_cosine(step, epochs * each, epochs=epochs, warmup_epochs=settings['warmup_epochs'])

    factors = [factor(step) for step in range(settings['epochs_run'] * each)]
    computed = {
        'out.lr': np.array([settings['lr'] * value for value in factors]),
        'out.lr_factor_all_epochs': np.array([factor(epoch * each) for epoch in range(epochs)]),
    }
    for variant, bias in {'bias': arrays['init.bias'], 'zerobias': np.zeros_like(arrays['init.bias'])}.items():
        probe, _, values = _trained(arrays, bias, options, factors)
        computed |= _named(variant, {**values, 'weight': probe.linear.weight, 'linbias': probe.linear.bias})
    return computed
