"""Axial rotary position embedding and the coordinates it rotates with (CAPI, arXiv 2502.08769)."""

import math
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError

from .precision import ExactBuffers

#: Cosines and sines, each ``[G or 1, 1, L, head_dim]`` in fp32.
Rotation = tuple[Tensor, Tensor]


def grid_coordinates(grid: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """Coordinates of the patches of a grid: ends are exactly 0 and 1 at every resolution.

    Args:
        grid: Rows and columns of patches, ``(h, w)``.
        device: Where to put them.

    Returns:
        ``[N, 2]`` (row, column), fp32, row-major.
    """
    rows, columns = (_line(side, device) for side in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing='ij'), dim=-1).flatten(0, 1)


def _line(number: int, device: torch.device | str | None) -> Tensor:
    """``number`` values from 0 to 1: ``torch.linspace``, which takes the symbols of torch.export for constants."""
    if not isinstance(number, torch.SymInt):
        return torch.linspace(0, 1, number, device=device)
    # In tensors only: exporters to ONNX do not know products with open sizes.
    index = torch.arange(number, device=device, dtype=torch.float32)
    last = index[-1:].clamp(min=1)
    return torch.where(2 * index <= last, index / last, 1 - (last - index) / last)


def border_coordinates(number: int, device: torch.device | str | None = None) -> Tensor:
    """Points spread evenly around the border of the unit square, ``number / 4`` per side.

    Args:
        number: A multiple of 4.
        device: Where to put them.

    Returns:
        ``[number, 2]``, fp32.

    Raises:
        InputError: ``number`` is no multiple of 4.
    """
    if number % 4:
        raise InputError(
            f'{number} registers cannot be spread over the four sides of the image: use a multiple of 4 (0 for none).'
        )
    side = number // 4
    c = torch.arange(side, device=device, dtype=torch.float32) / max(side, 1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    sides = [(c, zero), (one, c), (1 - c, one), (zero, 1 - c)]
    return torch.cat([torch.stack(pair, dim=-1) for pair in sides])


def scale_to_bounding_box(coordinates: Tensor, points: Tensor) -> Tensor:
    """Move unit-square coordinates ``[E, 2]`` to the bounding box of ``points [G, V, 2]``: ``[G, E, 2]``."""
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    return low + coordinates * (high - low)


def frequency_table(head_dim: int, max_freq: float, min_freq: float) -> Tensor:
    """Angular frequencies per coordinate and channel.

    ``head_dim / 4`` frequencies, log-spaced from ``max_freq`` down to ``min_freq``, times 2 pi, duplicated once; the
    first half of the channels turns with the row, the second with the column.

    Returns:
        ``[2, head_dim]``, fp32, zero where a channel ignores a coordinate.
    """
    if head_dim % 4:
        raise InputError(f'Rotary positions need a head width divisible by 4, got {head_dim}: change num_heads.')
    exponents = torch.linspace(0, -1, head_dim // 4)
    half = (max_freq * (max_freq / min_freq) ** exponents * (2 * math.pi)).repeat(2)
    zeros = torch.zeros_like(half)
    return torch.stack([torch.cat([half, zeros]), torch.cat([zeros, half])])


class AxialRoPE(ExactBuffers):
    """Turns coordinates into the cosines and sines that rotate queries and keys.

    Angles are fp32 with autocast off and in models of half precision: at 44 rad, bf16 is wrong by 0.1 rad. (The CAPI
    reference computes them in the autocast type; a stated deviation.)

    Args:
        head_dim: Width of an attention head, divisible by 4.
        max_freq: Highest frequency in turns per image side.
        min_freq: Lowest frequency in turns per image side.
    """

    freqs: Tensor
    like: Tensor
    exact = ('freqs',)

    def __init__(self, head_dim: int, max_freq: float = 7.0, min_freq: float = 7e-4) -> None:
        super().__init__()
        self.register_buffer('freqs', frequency_table(head_dim, max_freq, min_freq))
        # Empty: of the type that the model is cast to.
        self.register_buffer('like', torch.empty(0), persistent=False)

    def codes(self, grid: tuple[int, int]) -> Tensor:
        """Coordinates of the patches of a grid, ``[N, 2]``."""
        return grid_coordinates(grid, self.freqs.device)

    def extra_codes(self, number: int, seen: Tensor) -> Tensor:
        """Coordinates ``[G, number, 2]`` of extra tokens: the border of the bounding box of ``seen [G, V, 2]``."""
        return scale_to_bounding_box(border_coordinates(number, seen.device), seen)

    def add(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Nothing is added: the tokens, in the parameters' precision under autocast too."""
        return tokens.to(self.like.dtype)

    def add_extra(self, tokens: Tensor) -> Tensor:
        """Nothing is added to extra tokens."""
        return tokens

    def rotation(self, coordinates: Tensor) -> Rotation:
        """From ``[G or 1, L, 2]`` to cosines and sines ``[G or 1, 1, L, head_dim]``."""
        with torch.autocast(coordinates.device.type, enabled=False):
            row, column = coordinates.float().unsqueeze(1).unsqueeze(-1).unbind(-2)
            angles = row * self.freqs[0] + column * self.freqs[1]
            return angles.cos(), angles.sin()

    def bias(self, grid: tuple[int, int], seen: Tensor | None, num_extra: int) -> None:
        """Attention has no bias."""


def _turn(x: Tensor, cos: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``[x1 cos1 + x2 low, x2 cos2 + x1 high]`` for the halves of the channels, in two passes over the data."""
    first, second = x.chunk(2, dim=-1)
    out = x * cos
    out_first, out_second = out.chunk(2, dim=-1)
    out_first.addcmul_(second.to(out.dtype), low)
    out_second.addcmul_(first.to(out.dtype), high)
    return out.to(x.dtype)


class _Rotate(torch.autograd.Function):
    """Half the passes of what autograd makes of the definition, and nothing saved but the angles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        low, high = sin.chunk(2, dim=-1)
        return _turn(x, cos, -low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        low, high = sin.chunk(2, dim=-1)
        return _turn(grads[0], cos, high, -low), None, None


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries or keys.

    Channel ``i`` is paired with ``i + head_dim / 2`` of the whole head:
    ``x * cos + concatenate(-second half of x, first half of x) * sin``.

    Args:
        x: ``[G, heads, L, head_dim]``.
        rotation: Cosines and sines of :class:`AxialRoPE`; they get no gradient.

    Returns:
        ``[G, heads, L, head_dim]`` of the dtype of ``x``.
    """
    cos, sin = rotation
    return _Rotate.apply(x, cos, sin)
