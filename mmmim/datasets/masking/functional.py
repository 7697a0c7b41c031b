"""Sets of patches, drawn for a whole batch at once.

Legend: G masks, N = h * w patches of a grid ``(h, w)``. A set of patches is a boolean tensor ``[G, h, w]``.
"""

import math

import torch
from torch import Tensor

from mmmim.utils import InputError


def random_subset(indices: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw ``count`` entries of every row, uniformly and without replacement.

    Args:
        indices: ``[G, K]``, ascending in every row.
        count: How many to draw, at most K.
        rng: Random generator on the CPU.

    Returns:
        ``[G, count]``, ascending in every row.
    """
    if count == indices.shape[1]:
        return indices
    chosen = torch.rand(indices.shape, generator=rng).topk(count, dim=1, sorted=False).indices
    return indices.gather(1, chosen.sort(dim=1).values)


def uniform_set(num_masks: int, grid: tuple[int, int], count: int, rng: torch.Generator) -> Tensor:
    """``count`` patches per mask, uniform among all patches.

    Returns:
        ``[G, h, w]``, bool.
    """
    height, width = grid
    everything = torch.arange(height * width).expand(num_masks, -1)
    chosen = random_subset(everything, count, rng)
    patches = torch.zeros(num_masks, height * width, dtype=torch.bool)
    return patches.scatter_(1, chosen, True).view(num_masks, height, width)


def block_set(
    num_masks: int, grid: tuple[int, int], count: int, aspect_ratio: tuple[float, float], rng: torch.Generator
) -> Tensor:
    """``count`` patches per mask, in one block of random proportions at a random place.

    The proportion ``a`` (height over width) is log-uniform within the limits, as far as the block fits into the grid;
    the block has ``ceil(sqrt(count * a))`` rows and ``ceil(sqrt(count / a))`` columns, and its first ``count`` cells
    in row-major order are kept, so that the count is exact (CAPI, arXiv 2502.08769). As the cells cut off are those at
    the bottom, the last row of the grid is in a block less often than the first one, unless the set is rolled.

    Args:
        num_masks: Number of masks, G.
        grid: ``(h, w)`` in patches.
        count: Patches in the block, between 1 and N.
        aspect_ratio: Least and greatest height over width.
        rng: Random generator on the CPU.

    Returns:
        ``[G, h, w]``, bool.

    Raises:
        InputError: No block of ``count`` patches within the limits fits into the grid.
    """
    height, width = grid
    fits = count / width**2, height**2 / count
    low, high = max(aspect_ratio[0], fits[0]), min(aspect_ratio[1], fits[1])
    if low > high:
        raise InputError(
            f'aspect_ratio={tuple(aspect_ratio)}: no such block of {count} patches fits into the {height} x {width} '
            f'grid; choose limits that overlap ({fits[0]:.3g}, {fits[1]:.3g}) or another mask_ratio'
        )

    log_aspect, vertical, horizontal = torch.rand(3, num_masks, 1, 1, generator=rng, dtype=torch.float64)
    aspect = (math.log(low) + log_aspect * (math.log(high) - math.log(low))).exp()
    # At the limits of what fits, rounding can lift the exact side length just above the side of the grid.
    rows = (count * aspect).sqrt().ceil().clamp_(max=height)
    columns = (count / aspect).sqrt().ceil().clamp_(max=width)
    top = (vertical * (height - rows + 1)).floor()
    left = (horizontal * (width - columns + 1)).floor()

    row = torch.arange(height).view(1, -1, 1) - top
    column = torch.arange(width).view(1, 1, -1) - left
    in_columns = (column >= 0) & (column < columns)
    return (row >= 0) & in_columns & (row * columns + column < count)


def jitter(num_images: int, grid: tuple[int, int], gap: int, rng: torch.Generator, inclusive: bool = False) -> Tensor:
    """Where every patch lies inside its cell, which is ``gap`` pixels larger (Latent MIM, arXiv 2407.15837).

    Args:
        num_images: Number of images, B.
        grid: ``(h, w)`` in patches.
        gap: G, in pixels.
        rng: Random generator on the CPU.
        inclusive: Whether offsets go up to G, as the paper says, instead of G - 1, as in the released code.

    Returns:
        Rows and columns from 0, ``[B, N, 2]``, int64.
    """
    rows, columns = (torch.randint(gap + inclusive, (num_images, grid[0] * grid[1]), generator=rng) for _ in range(2))
    return torch.stack([rows, columns], dim=-1)


def roll_set(patches: Tensor, shifts: Tensor) -> Tensor:
    """Shift every mask with wrap-around.

    Args:
        patches: ``[G, h, w]``.
        shifts: Rows and columns to move down and right, ``[2, G]``, int64.

    Returns:
        ``[G, h, w]``, with ``out[g, (r + shifts[0, g]) % h, (c + shifts[1, g]) % w] = patches[g, r, c]``.
    """
    num_masks, height, width = patches.shape
    row = (torch.arange(height) - shifts[0].unsqueeze(1)) % height
    column = (torch.arange(width) - shifts[1].unsqueeze(1)) % width
    return patches[torch.arange(num_masks).view(-1, 1, 1), row.unsqueeze(2), column.unsqueeze(1)]
