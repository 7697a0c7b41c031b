"""Positions that are added to tokens."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.utils import InputError

from .attention import head_width
from .relative import RelativePositions
from .rope import AxialRoPE


def sincos_positions(grid: tuple[int, int], dim: int, stretched: bool = False) -> Tensor:
    """Sines and cosines of the column and the row of every patch (MAE, arXiv 2111.06377).

    With frequencies ``w_j = 10000^(-j / q)``, ``q = dim / 4``, the patch in row r and column c has
    ``[sin(c w), cos(c w), sin(r w), cos(r w)]``.

    Args:
        grid: ``(h, w)`` in patches.
        dim: Width D, a multiple of 4.
        stretched: Whether coordinates along a side of n patches run from 0 to n instead of n - 1 (Latent MIM).

    Returns:
        ``[N, D]``, row-major, computed in fp64 and returned in fp32.

    Raises:
        InputError: The width is no multiple of 4.
    """
    if dim % 4:
        raise InputError(f'Sine-cosine positions need a width divisible by 4, got embed_dim={dim}.')
    quarter = dim // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    steps = [side / max(side - 1, 1) if stretched else 1.0 for side in grid]
    sides = [torch.arange(side, dtype=torch.float64) * step for side, step in zip(grid, steps, strict=True)]
    rows, columns = torch.meshgrid(*sides, indexing='ij')
    parts = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    return torch.cat([wave for part in parts for wave in (part.sin(), part.cos())], dim=1).float()


class PositionTable(nn.Module):
    """A vector for every patch of a grid, fixed sines and cosines or learned.

    On other grids the table is interpolated (bicubic, without antialiasing, as is usual for Vision Transformers). Sines
    and cosines of another grid in a file are not loaded: those of this one stay.

    Args:
        grid: ``(h, w)`` that the model is trained on.
        dim: Width D of the vectors.
        learnable: Learned vectors, drawn from a normal distribution of std 0.02, instead of sines and cosines.
        stretched: Whether sines and cosines are stretched, see :func:`sincos_positions`.
        num_extra: Number of extra tokens that have a learned vector of their own too.
    """

    weight: Tensor

    def __init__(
        self,
        grid: tuple[int, int],
        dim: int,
        learnable: bool = False,
        stretched: bool = False,
        num_extra: int = 0,
    ) -> None:
        super().__init__()
        self.grid = grid
        #: Buffers that hold nothing learned: files of another grid load without them.
        self.fixed_buffers = () if learnable else ('weight',)
        if learnable:
            self.weight = nn.Parameter(torch.empty(grid[0] * grid[1], dim))
            nn.init.trunc_normal_(self.weight, std=0.02)
        else:
            self.register_buffer('weight', sincos_positions(grid, dim, stretched))
        self.extra = nn.Parameter(torch.empty(num_extra, dim)) if num_extra else None
        if self.extra is not None:
            nn.init.trunc_normal_(self.extra, std=0.02)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in self.fixed_buffers:
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape != self.weight.shape:
                state_dict = {**state_dict, prefix + name: self.weight}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def codes(self, grid: tuple[int, int]) -> Tensor:
        """Vectors of the patches of ``grid``: ``[N, D]``, row-major."""
        # torch.export must not choose by a size that it keeps open; interpolated to its own size, a table stays as is.
        open_size = any(isinstance(side, torch.SymInt) for side in grid)
        if not open_size and tuple(grid) == self.grid:
            return self.weight
        # In fp32 also in a bf16 model, whose coordinates and weights would be rounded too.
        table = self.weight.float().t().unflatten(1, self.grid).unsqueeze(0)
        table = F.interpolate(table, size=tuple(grid), mode='bicubic', align_corners=False)
        return table[0].flatten(1).t().to(self.weight.dtype)

    def extra_codes(self, number: int, seen: Tensor) -> None:
        """Extra tokens have no place on the grid."""

    def add(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Tokens with vectors of the same shape added, in the vectors' precision under autocast too."""
        return tokens.to(codes.dtype) + codes

    def add_extra(self, tokens: Tensor) -> Tensor:
        """Extra tokens ``[G or 1, E, D]``, with their vectors where they have any."""
        return tokens if self.extra is None else self.add(tokens, self.extra)

    def rotation(self, codes: Tensor) -> None:
        """Nothing is rotated."""

    def bias(self, grid: tuple[int, int], seen: Tensor | None, num_extra: int) -> None:
        """Attention has no bias."""


#: How tokens know where they are: ``codes`` (of a grid), ``extra_codes``, ``add``, ``add_extra``, ``rotation`` and
#: ``bias``.
Positions = AxialRoPE | PositionTable | RelativePositions


#: What positions may be, by name.
KINDS = ('rope', 'sincos', 'sincos_stretched', 'learnable', 'relative_shared')


def make_positions(kind: str, dim: int, num_heads: int, grid: tuple[int, int], num_extra: int = 0) -> Positions:
    """Positions by name.

    Args:
        kind: 'rope' (rotary, CAPI), 'sincos' (fixed vectors, MAE), 'sincos_stretched' (Latent MIM), 'learnable'
            (learned vectors) or 'relative_shared' (a learned bias of attention, the same in all blocks: data2vec).
        dim: Width D of the tokens.
        num_heads: Number of attention heads.
        grid: ``(h, w)`` of training; rotary positions do not depend on it.
        num_extra: Number of extra tokens with a learned vector of their own, as in BEiT.

    Raises:
        InputError: There is no such kind, or it has no vectors.
    """
    if kind in ('rope', 'relative_shared'):
        if num_extra:
            words = 'Rotary' if kind == 'rope' else 'Relative'
            raise InputError(f'{words} positions have no vectors for extra tokens: choose other positions.')
        return AxialRoPE(head_width(dim, num_heads)) if kind == 'rope' else RelativePositions(grid, num_heads)
    if kind in ('sincos', 'sincos_stretched', 'learnable'):
        learnable, stretched = kind == 'learnable', kind == 'sincos_stretched'
        return PositionTable(grid, dim, learnable, stretched, num_extra)
    raise InputError(f'positions must be one of {", ".join(map(repr, KINDS))}, got {kind!r}.')
