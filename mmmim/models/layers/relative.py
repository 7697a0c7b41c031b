"""Relative positions: a learned bias of attention by where a key lies from a query (BEiT, arXiv 2106.08254)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import grid_coordinates

#: Rows at the end of a table, of no place: extra tokens to patches, patches to extra tokens, among extra tokens.
SPECIAL_ROWS = 3


def relative_rows(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which row of the table belongs to each pair of patches.

    For a query in row r and column c and a key in row r' and column c' of ``h x w`` patches it is
    ``(r - r' + h - 1) (2w - 1) + (c - c' + w - 1)``.

    Args:
        patches: ``[G, V]``, row-major indices on the grid.
        grid: Rows and columns of patches, ``(h, w)``.

    Returns:
        ``[G, V, V]``, queries before keys, int64 in ``[0, (2h - 1) (2w - 1))``.
    """
    height, width = grid
    row, column = torch.div(patches, width, rounding_mode='floor'), patches % width
    down = row.unsqueeze(2) - row.unsqueeze(1) + height - 1
    right = column.unsqueeze(2) - column.unsqueeze(1) + width - 1
    return down * (2 * width - 1) + right


def resampled_table(table: Tensor, grid: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """A table of another grid: the part of the places interpolated as positions that are added are.

    Bicubic, without antialiasing, in fp32; no distance stays no distance. (The released code of BEiT interpolates by
    splines over coordinates in geometric progression when it loads a file; a stated deviation.)

    Args:
        table: ``[(2h - 1) (2w - 1) + 3, heads]``.
        grid: ``(h, w)`` of the table.
        other: ``(h', w')`` that is wanted.

    Returns:
        ``[(2h' - 1) (2w' - 1) + 3, heads]``.
    """
    sides, wanted = [2 * side - 1 for side in grid], [2 * side - 1 for side in other]
    places = table[:-SPECIAL_ROWS].float().t().unflatten(1, sides).unsqueeze(0)
    places = F.interpolate(places, size=wanted, mode='bicubic', align_corners=False)[0].flatten(1).t()
    return torch.cat([places.to(table.dtype), table[-SPECIAL_ROWS:]])


class RelativePositions(nn.Module):
    """A bias that all blocks add to scaled products of queries and keys, by head and by where the key lies.

    Nothing is added to tokens. Files of another grid do not load; on images of another grid the table is interpolated,
    see :func:`resampled_table`.

    Args:
        grid: ``(h, w)`` that the model is trained on.
        num_heads: Number of attention heads.
    """

    def __init__(self, grid: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.grid = grid
        #: A row for each difference of places, see :func:`relative_rows`, and :data:`SPECIAL_ROWS`.
        self.table = nn.Parameter(torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1) + SPECIAL_ROWS, num_heads))

    def codes(self, grid: tuple[int, int]) -> Tensor:
        """Coordinates of the patches of a grid, ``[N, 2]``, for those who ask where patches are."""
        return grid_coordinates(grid, self.table.device)

    def extra_codes(self, number: int, seen: Tensor) -> None:
        """Extra tokens have no place on the grid."""

    def add(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Nothing is added: the tokens, in the parameters' precision under autocast too."""
        return tokens.to(self.table.dtype)

    def add_extra(self, tokens: Tensor) -> Tensor:
        """Nothing is added to extra tokens."""
        return tokens

    def rotation(self, codes: Tensor) -> None:
        """Nothing is rotated."""

    def bias(self, grid: tuple[int, int], seen: Tensor | None, num_extra: int) -> Tensor:
        """What is added to the products of queries and keys.

        Args:
            grid: ``(h, w)`` of the images.
            seen: Patches that the encoder sees, ``[G, V]``; None for all.
            num_extra: Number of extra tokens E, which come first.

        Returns:
            ``[G or 1, heads, E + V, E + V]``, queries before keys.
        """
        open_size = any(isinstance(side, torch.SymInt) for side in grid)
        same = not open_size and tuple(grid) == self.grid
        table = self.table if same else resampled_table(self.table, self.grid, grid)
        if seen is None:
            seen = torch.arange(grid[0] * grid[1], device=table.device).unsqueeze(0)
        # Unlike that of indexing, the gradient of an embedding is added up in the same order every time.
        bias = F.embedding(relative_rows(seen, grid), table).movedim(-1, 1)  # G heads V V
        if not num_extra:
            return bias
        ahead, back, among = (row.view(1, -1, 1, 1) for row in table[-SPECIAL_ROWS:])
        size = bias.shape[-1]
        ahead, back, among = (
            row.expand(bias.shape[0], -1, *shape)
            for row, shape in (
                (ahead, (num_extra, size)),
                (back, (size, num_extra)),
                (among, (num_extra, num_extra)),
            )
        )
        return torch.cat([torch.cat([among, ahead], dim=3), torch.cat([back, bias], dim=3)], dim=2)
