"""What the tokens of an encoder attend to.

Maps are made beside the attention that runs, of the queries and keys that it runs on; encoders stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmmim.structures import Context

from .backbones.vit import layer_index
from .features import eval_mode
from .layers import Attention


class _Spy(TorchFunctionMode):
    """Hands queries and keys of the attention of ``layer``, if there is one, to a visitor as a map."""

    def __init__(self, visit: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.visit = visit
        self.layer: int | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and self.layer is not None:
            query, key = (value.float() for value in args[:2])
            self.visit(self.layer, (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1))
        return func(*args, **kwargs or {})


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
        InputError: There is no such block.
    """
    modules = self_attentions(backbone)
    wanted = range(len(modules)) if layers is None else {layer_index(layer, len(modules)) for layer in layers}
    spy = _Spy(visit)

    def enter(layer: int | None) -> Callable[..., None]:
        return lambda *_: setattr(spy, 'layer', layer)

    with ExitStack() as stack:
        stack.enter_context(eval_mode(backbone))
        for layer in wanted:
            stack.callback(modules[layer].register_forward_pre_hook(enter(layer)).remove)
            stack.callback(modules[layer].register_forward_hook(enter(None)).remove)
        stack.enter_context(spy)
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
        grid: ``(h, w)``.
        patch_size: Side of a patch, the unit of the result: in pixels of the input.
        num_extra: E.

    Returns:
        ``[B, heads]``.
    """
    places = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float32) for side in grid)) * patch_size
    distances = torch.cdist(places, places, compute_mode='donot_use_mm_for_euclid_dist').to(attention.device)
    weights = attention[..., num_extra:, num_extra:]
    # All of a row may lie on extra tokens, up to rounding: such a patch looks nowhere.
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return (weights * distances).sum(dim=-1).mean(dim=-1)
