"""Initialisation."""

import math

from torch import nn

from mmmim.utils import InputError

from .attention import Attention
from .patch_embed import PatchEmbed

SCHEMES = ('capi', 'mae', 'latent_mim')


def init_weights(module: nn.Module, scheme: str) -> None:
    """Initialise every linear layer below ``module`` as a method does: Xavier-uniform weights, zero biases.

    Args:
        module: Changed in place.
        scheme: 'capi': as said. 'mae': the layers that read the same tokens in an attention (queries, keys and values;
            in cross-attention keys and values) count as one layer, as in implementations that hold them in one
            matrix, so their weights are smaller. 'latent_mim': like 'mae', and the bias of the patch embedding is zero
            too.

    Raises:
        InputError: There is no such scheme.
    """
    if scheme not in SCHEMES:
        raise InputError(f'init must be one of {", ".join(SCHEMES)}, got {scheme!r}.')
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if scheme == 'capi':
        return
    for layer in module.modules():
        if isinstance(layer, Attention):
            fused = (layer.k_proj, layer.v_proj) if layer.is_cross else (layer.q_proj, layer.k_proj, layer.v_proj)
            for part in fused:
                bound = math.sqrt(6 / (part.in_features + len(fused) * part.out_features))
                nn.init.uniform_(part.weight, -bound, bound)
        if isinstance(layer, PatchEmbed) and scheme == 'latent_mim':
            nn.init.zeros_(layer.bias)
