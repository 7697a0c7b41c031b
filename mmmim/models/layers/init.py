"""How the weights of layers are initialised, by name."""

import math

from torch import Tensor, nn

from mmmim.utils import InputError

from .attention import Attention
from .block import Block
from .patch_embed import PatchEmbed

SCHEMES = ('capi', 'mae', 'latent_mim', 'torch', 'trunc_normal', 'trunc_normal_rescaled', 'beit', 'data2vec2')


def init_weights(module: nn.Module, scheme: str) -> None:
    """Initialise every linear layer and patch embedding below ``module`` as a method does.

    Args:
        module: Changed in place.
        scheme: 'capi': Xavier-uniform weights and zero biases, but for the bias of the patch embedding. 'mae': the
            layers that read the same tokens in an attention (queries, keys and values; in cross-attention keys and
            values) count as one layer, as in implementations that hold them in one matrix, so their weights are
            smaller. 'latent_mim': like 'mae', and the bias of the patch embedding is zero too. 'torch': PyTorch's
            default (PiLaMIM). 'trunc_normal': weights of std 0.02, zero biases (I-JEPA, MaskFeat).
            'trunc_normal_rescaled': then the last weight of both branches of the i-th block, from 1, is divided by
            ``sqrt(2 i)`` (BEiT, arXiv 2106.08254). 'beit': the same, truncated at one standard deviation, tokens too,
            as in the released code of BEiT and data2vec. 'data2vec2': normal weights of std 0.02 and zero biases, but
            for the patch embedding, which is that of 'mae'; tokens of std 1 (data2vec 2.0).

    Raises:
        InputError: There is no such scheme.
    """
    if scheme not in SCHEMES:
        raise InputError(f'init must be one of {", ".join(SCHEMES)}, got {scheme!r}.')
    if scheme == 'torch':
        _torch_default(module)
    elif scheme in ('capi', 'mae', 'latent_mim'):
        _xavier(module, scheme)
    elif scheme == 'data2vec2':
        _normal(module)
    else:
        rescaled = scheme != 'trunc_normal'
        _trunc_normal(module, rescaled, limit=0.02 if scheme == 'beit' else 2.0)


def init_token(token: Tensor, scheme: str) -> None:
    """Draw learned tokens, CLS or those of masked patches, as a method does: normal, of std 0.02 but for some.

    Args:
        token: Changed in place.
        scheme: How weights are drawn, as in :func:`init_weights`.
    """
    if scheme == 'beit':
        nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
    else:
        nn.init.normal_(token, std=1.0 if scheme == 'data2vec2' else 0.02)


def _normal(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _torch_default(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, PatchEmbed):  # the layers of torch are so already
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound)


def _trunc_normal(module: nn.Module, rescaled: bool, limit: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear | PatchEmbed):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-limit, b=limit)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    blocks = [layer for layer in module.modules() if isinstance(layer, Block)] if rescaled else []
    for i, block in enumerate(blocks, start=1):
        for last in (block.attn.proj, block.mlp.fc2):
            last.weight.data /= math.sqrt(2 * i)


def _xavier(module: nn.Module, scheme: str) -> None:
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
