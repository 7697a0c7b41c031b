"""What the tokens of an encoder attend to, and what they are compared by.

Maps are made beside the attention that runs, of the tokens that it runs on; encoders stay as they are. That works for
those of every library: what a block's attention calls of torch is looked at, not how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.models.layers import Attention, layer_index
from mmmim.structures import Context
from mmmim.utils import InputError

from .extraction import eval_mode

#: What is projected from the tokens of a block, by the place in a layer that makes all three.
PROJECTIONS = ('queries', 'keys', 'values')
#: Names of layers that make one of them, in timm and transformers.
_SEPARATE = {'queries': ('q_proj', 'query'), 'keys': ('k_proj', 'key'), 'values': ('v_proj', 'value')}


def self_attentions(backbone: nn.Module) -> list[Any]:
    """The self-attention of every block, in their order.

    Raises:
        InputError: The encoder is of another library, and its blocks have none.
    """
    if not isinstance(backbone, WrappedEncoder):
        return [module for module in backbone.modules() if isinstance(module, Attention) and not module.is_cross]
    found = backbone.attentions
    if not all(isinstance(module, nn.Module) for module in found):
        raise InputError(
            f'The blocks of {type(backbone.encoder).__name__} have no self-attention of their own to look at: use '
            'another encoder.'
        )
    return found


def number_of_heads(attention: nn.Module) -> int:
    """Heads of the self-attention of a block, one of :func:`self_attentions`.

    Raises:
        InputError: It says them under none of the names that libraries have for them.
    """
    for name in ('num_heads', 'num_attention_heads'):  # of timm, mmpretrain and mmmim; of transformers
        if isinstance(found := getattr(attention, name, None), int):
            return found
    raise InputError(f'{type(attention).__name__} does not say how many heads it has: use another encoder.')


class _Watch(TorchFunctionMode):
    """Notes what an attention computes, while it does.

    Attributes:
        projections: What linear layers make of the tokens, by the name of the layer: ``qkv``, ``k_proj``.
        weights: Softmax attention, ``[B, heads, L, L]`` in fp32; None before it is computed, and where nothing is.
    """

    def __init__(self, module: nn.Module, with_weights: bool) -> None:
        super().__init__()
        self.projections: dict[str, Tensor] = {}
        self.weights: Tensor | None = None
        self._with_weights = with_weights
        # Some libraries call torch with the weights of a layer, not the layer.
        self._layers = {
            id(layer.weight): name for name, layer in module.named_children() if isinstance(layer, nn.Linear)
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        if func is F.linear:
            weight = kwargs['weight'] if 'weight' in kwargs else args[1]
            if (name := self._layers.get(id(weight))) is not None:
                self.projections[name] = result
        elif self._with_weights and func is F.scaled_dot_product_attention:
            self.weights = _softmax_attention(*args, **kwargs)
        elif self._with_weights and func in (torch.softmax, Tensor.softmax, F.softmax) and result.ndim == 4:
            self.weights = result.float()
        return result


def _softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights inside of ``torch.nn.functional.scaled_dot_product_attention``, whose arguments these are."""
    if is_causal or enable_gqa:
        raise InputError('There are no attention maps of an encoder whose tokens do not all see each other.')
    products = (query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)).float()
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        products = products.masked_fill(~attn_mask, -torch.inf) if masked else products + attn_mask
    return products.softmax(dim=-1)


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable) -> Iterator[None]:
    """Another ``forward`` of one module, for a while."""
    own = {'forward': module.forward} if 'forward' in vars(module) else {}
    vars(module)['forward'] = forward
    try:
        yield
    finally:
        del vars(module)['forward']
        vars(module).update(own)


def _watched(
    backbone: nn.Module,
    images: Tensor,
    visit: Callable[[int, _Watch], None],
    layers: Sequence[int] | None,
    with_weights: bool,
    hidden: Sequence[int] = (),
) -> Context:
    """Encode images in evaluation mode, and show what the attention of some blocks computes, one at a time."""
    modules = self_attentions(backbone)
    wanted = range(len(modules)) if layers is None else {layer_index(layer, len(modules)) for layer in layers}

    def watch(layer: int, forward: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            with _Watch(modules[layer], with_weights) as seen:
                result = forward(*args, **kwargs)
            visit(layer, seen)
            return result

        return run

    with ExitStack() as stack:
        stack.enter_context(eval_mode(backbone))
        for layer in wanted:
            stack.enter_context(_replaced_forward(modules[layer], watch(layer, modules[layer].forward)))
        return backbone(images, layers=hidden)


def visit_attention(
    backbone: nn.Module,
    images: Tensor,
    visit: Callable[[int, Tensor], None],
    layers: Sequence[int] | None = None,
    hidden: Sequence[int] = (),
) -> Context:
    """Encode images in evaluation mode, and look at the attention of one block at a time: only the visitor keeps it.

    Works on every encoder whose blocks attend by softmax, of any library, whatever its positions are: a bias of
    relative positions is inside of the softmax.

    Args:
        backbone: The encoder, uncompiled.
        images: ``[B, C, H, W]``, normalised.
        visit: Gets the number of a block, from 0, and its softmax attention ``[B, heads, E + N, E + N]`` in fp32: rows
            are queries, columns are keys, extra tokens (CLS, proxies, registers) come first.
        layers: Blocks, negative ones from the end; None for all.
        hidden: Blocks whose states the encoder keeps in ``hidden`` of what it returns.

    Returns:
        What the encoder returns.

    Raises:
        InputError: There is no such block, or its attention is none by softmax.
    """

    def look(layer: int, seen: _Watch) -> None:
        if seen.weights is None:
            raise InputError(
                f'There are no attention maps of {type(self_attentions(backbone)[layer]).__name__}, the attention of '
                f'block {layer}: it computes no softmax of all pairs of tokens.'
            )
        visit(layer, seen.weights)

    return _watched(backbone, images, look, layers, True, hidden)


def attention_maps(backbone: nn.Module, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Softmax attention of some blocks, each ``[B, heads, E + N, E + N]``; see :func:`visit_attention`."""
    found: dict[int, Tensor] = {}
    visit_attention(backbone, images, found.__setitem__, layers)
    depth = len(self_attentions(backbone))
    return [found[layer_index(layer, depth)] for layer in layers]


def projection(backbone: nn.Module, images: Tensor, name: str, layer: int = -1) -> Tensor:
    """Queries, keys or values of the attention of a block.

    They are what the layer makes of the block's normed tokens, its bias included, and before rotary positions or a norm
    of keys turn or scale them.

    Args:
        backbone: The encoder, uncompiled.
        images: ``[B, C, H, W]``, normalised.
        name: 'queries', 'keys' or 'values'.
        layer: Block, negative from the end.

    Returns:
        ``[B, E + N, D]``, the heads side by side in their order.

    Raises:
        InputError: There is no such block, or its attention has no such layer.
    """
    found: list[Tensor] = []

    def look(layer: int, seen: _Watch) -> None:
        separate = (seen.projections.get(layer_name) for layer_name in _SEPARATE[name])
        if (own := next((each for each in separate if each is not None), None)) is not None:
            found.append(own)
        elif (joined := seen.projections.get('qkv')) is not None:
            found.append(joined.chunk(3, dim=-1)[PROJECTIONS.index(name)])
        else:
            raise InputError(
                f'There are no {name} of {type(self_attentions(backbone)[layer]).__name__}, the attention of block '
                f'{layer}: it has no layer qkv and none {name[0]}_proj.'
            )

    _watched(backbone, images, look, [layer], False)
    return found[0]


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
