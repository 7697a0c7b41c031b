"""A counter of FLOPs that knows attention on every device, whatever torch's own counter knows."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

#: Kernels of attention that compute its two products in one operation. Those made of several are counted one by one.
_FUSED = (
    '_scaled_dot_product_flash_attention_for_cpu',
    '_scaled_dot_product_flash_attention',
    '_scaled_dot_product_efficient_attention',
    '_scaled_dot_product_cudnn_attention',
    '_scaled_dot_product_fused_attention_overrideable',
    '_scaled_dot_product_attention_math_for_mps',
)

Shape = tuple[int, ...]


def _forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores, and their product with the values: two products; shapes are ``[..., heads, tokens, width]``."""
    *batch, queries, width = query
    return 2 * torch.Size(batch).numel() * queries * key[-2] * (width + value[-1])


def _backward(_grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores again, and the gradients of weights, values, queries and keys: five products."""
    *batch, queries, width = query
    return 2 * torch.Size(batch).numel() * queries * key[-2] * (3 * width + 2 * value[-1])


def _missing() -> dict[Any, Any]:
    formulas = dict.fromkeys(_FUSED, _forward) | {f'{name}_backward': _backward for name in _FUSED}
    packets = {getattr(torch.ops.aten, name): formulas[name] for name in formulas if hasattr(torch.ops.aten, name)}
    return {packet: packets[packet] for packet in packets.keys() - flop_registry.keys()}


def make_flop_counter() -> FlopCounterMode:
    """A counter of the FLOPs of matrix products, convolutions and attention, to be used as a context.

    Torch's counter leaves out kernels without a formula in its table, without a word: up to 2.14 at least that of
    attention on a CPU. Those get one here; what the table has stays as it is.
    """
    return FlopCounterMode(display=False, custom_mapping=_missing())
