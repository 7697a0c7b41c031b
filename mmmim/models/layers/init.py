"""Initialisation."""

import math

from torch import nn

from .attention import Attention


def init_linear_layers(module: nn.Module, fused_qkv: bool = False) -> None:
    """Xavier-uniform weights and zero biases for every linear layer below ``module``.

    Args:
        module: Changed in place.
        fused_qkv: Whether the layers of queries, keys and values of an attention count as one layer of three times the
            outputs, as in implementations that hold them in one matrix (MAE and its successors): their weights are
            then smaller by sqrt(2).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if not fused_qkv:
        return
    for layer in module.modules():
        if isinstance(layer, Attention):
            for part in (layer.q_proj, layer.k_proj, layer.v_proj):
                bound = math.sqrt(6 / (part.in_features + 3 * part.out_features))
                nn.init.uniform_(part.weight, -bound, bound)
