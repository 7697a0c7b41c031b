"""What the tokens of an encoder attend to.

Maps are made beside the attention that runs, of the tokens that it runs on; encoders stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mmmim.models.layers import Attention, layer_index
from mmmim.structures import Context
from mmmim.utils import InputError

from .extraction import eval_mode


def self_attentions(backbone: nn.Module) -> list[Attention]:
    """The self-attention of every block, in their order."""
    return [module for module in backbone.modules() if isinstance(module, Attention) and not module.is_cross]


def visit_attention(
    backbone: nn.Module, images: Tensor, visit: Callable[[int, Tensor], None], layers: Sequence[int] | None = None
) -> Context:
    """Encode images in evaluation mode, and look at the attention of one block at a time: only the visitor keeps it.

    Works on every encoder whose blocks attend by :class:`~mmmim.models.layers.Attention`, whatever its positions are.

    Args:
        backbone: The encoder, uncompiled.
        images: ``[B, C, H, W]``, normalised.
        visit: Gets the number of a block, from 0, and its softmax attention ``[B, heads, E + N, E + N]`` in fp32: rows
            are queries, columns are keys, extra tokens (CLS, proxies, registers) come first.
        layers: Blocks, negative ones from the end; None for all.

    Returns:
        What the encoder returns.

    Raises:
        InputError: There is no such block, or the encoder is of another library.
    """
    modules = self_attentions(backbone)
    if not modules:
        raise InputError(
            f'There are no attention maps of {type(backbone).__name__}, which is of another library: use an encoder '
            'mmmim.ViT.'
        )
    wanted = range(len(modules)) if layers is None else {layer_index(layer, len(modules)) for layer in layers}

    def look(layer: int) -> Callable[[nn.Module, tuple], None]:
        return lambda module, args: visit(layer, modules[layer].weights(*args).float())

    with ExitStack() as stack:
        stack.enter_context(eval_mode(backbone))
        for layer in wanted:
            stack.callback(modules[layer].register_forward_pre_hook(look(layer)).remove)
        return backbone(images)


def attention_maps(backbone: nn.Module, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Softmax attention of some blocks, each ``[B, heads, E + N, E + N]``; see :func:`visit_attention`."""
    found: dict[int, Tensor] = {}
    visit_attention(backbone, images, found.__setitem__, layers)
    depth = len(self_attentions(backbone))
    return [found[layer_index(layer, depth)] for layer in layers]


def attention_distance(attention: Tensor, grid: tuple[int, int], patch_size: int, num_extra: int) -> Tensor:
    """Averaged distance that patches look over: ``mean_i sum_j a_ij |x_i - x_j|``, x the centres of patches.

    Extra tokens are left out, and the attention of a patch to the others is normalised again.

    Args:
        attention: ``[B, heads, E + N, E + N]``, rows are queries.
        grid: Rows and columns of patches, ``(h, w)``.
        patch_size: Side of a patch, the unit of the result: in pixels of the input.
        num_extra: Number of extra tokens, E, which come before the patches.

    Returns:
        ``[B, heads]``.
    """
    places = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float32) for side in grid)) * patch_size
    distances = torch.cdist(places, places, compute_mode='donot_use_mm_for_euclid_dist').to(attention.device)
    weights = attention[..., num_extra:, num_extra:]
    # All of a row may lie on extra tokens, up to rounding: such a patch looks nowhere.
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return (weights * distances).sum(dim=-1).mean(dim=-1)
