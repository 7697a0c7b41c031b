"""Initialisation."""

import math

from torch import nn

from mmmim.utils import InputError

from .attention import Attention


def init_linear_layers(module: nn.Module, scheme: str = 'xavier') -> None:
    """Initialise every linear layer below ``module``: Xavier-uniform weights, zero biases.

    Args:
        module: Changed in place.
        scheme: 'xavier'; or 'xavier_fused', where the layers of queries, keys and values of an attention count as one
            layer of three times the outputs, as in implementations that hold them in one matrix (MAE and its
            successors): their weights are then smaller by sqrt(2).

    Raises:
        InputError: There is no such scheme.
    """
    if scheme not in ('xavier', 'xavier_fused'):
        raise InputError(f"init must be 'xavier' or 'xavier_fused', got {scheme!r}.")
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if scheme == 'xavier':
        return
    for layer in module.modules():
        if isinstance(layer, Attention):
            for part in (layer.q_proj, layer.k_proj, layer.v_proj):
                bound = math.sqrt(6 / (part.in_features + 3 * part.out_features))
                nn.init.uniform_(part.weight, -bound, bound)
