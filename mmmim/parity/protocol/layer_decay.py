"""Learning rates by layer and weight decay by parameter (MAE, arXiv 2111.06377; BEiT, arXiv 2106.08254)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mmmim.engine.optim_constructor import parameter_groups
from mmmim.models.layers import parameter_layer
from mmmim.utils import InputError

#: What has no weight decay, by what the names of recordings begin with.
RULES = {
    'mae': r'bias$|norm|cls_token|pos_embed',
    'beit': r'bias$|norm|gamma_|cls_token|pos_embed',
    'semanticmim': r'\.ln|\.bias|q_bias|v_bias|\.cls_token|\.pos_embed|\.gamma',
}


class _Encoder(nn.Module):
    """An encoder that has nothing but parameters, which says of them in which layer they are."""

    depth = 0

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        return parameter_layer(param_name, prefix, self.depth), self.depth + 2


def _model(names: list[str], depth: int) -> nn.Module:
    """A model with parameters of these names, whose encoder is itself or its ``backbone``."""
    model: nn.Module = _Encoder()
    for name in names:
        module, *parts = [model, *name.split('.')]
        for part in parts[:-1]:
            if not hasattr(module, part):
                module.add_module(part, _Encoder())
            module = getattr(module, part)
        module.register_parameter(parts[-1], nn.Parameter(torch.zeros(1)))
    if 'backbone' in dict(model.named_children()):
        wrapper = nn.Module()
        for name, child in model.named_children():
            wrapper.add_module(name, child)
        model = wrapper
    encoder = getattr(model, 'backbone', model)
    encoder.depth = depth
    return model


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has two values for each of its names of parameters."""
    names = about.get('names')
    return isinstance(names, Mapping) and bool(names) and all(f'{key}.values' in arrays for key in names)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Factor of the learning rate and weight decay of every parameter, ``[n, 2]``."""
    settings, found = about['settings'], {}
    for key, names in about['names'].items():
        family = re.split(r'[._]', key)[0]
        if family not in RULES:
            raise InputError(f'The recording names parameters of {key!r}: there are rules of {", ".join(RULES)}.')
        decay = settings[next((name for name in settings if name.startswith('decay_') and family in name), 'decay')]
        rules: dict[str, dict | None] = {'no_decay': {'match': RULES[family], 'decay_mult': 0.0}}
        model = _model(names, settings['depth'])
        values = {
            id(parameter): (group['lr'], group['weight_decay'])
            for group in parameter_groups(model, 1.0, settings['weight_decay'], rules, decay)
            for parameter in group['params']
        }
        parameters = dict(model.named_parameters())
        found[f'{key}.values'] = np.array([values[id(parameters[name])] for name in names])
    return found
