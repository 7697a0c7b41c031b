"""Sizes of frames, and the ways of labels to the grid of patches and back.

Legend: H x W pixels of a frame as it was annotated, N = h x w patches of P x P pixels, C = 1 + the number of objects.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmmim.utils import InputError

from .propagation import Propagation

#: What DINO's long sides of frames are a multiple of.
_MULTIPLE = 64


def input_size(height: int, width: int, patch_size: int, short_side: int | None = 480) -> tuple[int, int]:
    """The size that a frame gets for the encoder, which patches divide.

    DINO's rule: the short side as asked for, the long one in proportion, rounded down to a multiple of 64. Where the
    patch size does not divide these, they are rounded down to multiples of it.

    Args:
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        patch_size: Side P of a patch in pixels.
        short_side: Short side in pixels; None leaves frames at their size, rounded down to patches.

    Raises:
        InputError: Nothing is left of a side.
    """
    sides = height, width
    if short_side is not None:
        longer = _MULTIPLE * (short_side * max(sides) // (min(sides) * _MULTIPLE))
        sides = (longer, short_side) if height > width else (short_side, longer)
    rows, columns = (side // patch_size * patch_size for side in sides)
    if not rows or not columns:
        raise InputError(
            f'Frames of {height} x {width} pixels at short_side={short_side} are {sides[0]} x {sides[1]} pixels, and '
            f'patches {patch_size}: set test_cfg.short_side to more, or to None for frames at their own size (DINO '
            f'rounds the long side down to a multiple of {_MULTIPLE}).'
        )
    return rows, columns


def first_labels(annotation: np.ndarray, objects: int, grid: tuple[int, int], how: Propagation) -> Tensor:
    """The annotation of the first frame as labels of patches.

    A channel is kept for an object that is too small for the grid, which then is never predicted.

    Args:
        annotation: Indices of objects ``[H, W]`` uint8, 0 for the background.
        objects: Number of objects, C - 1.
        grid: ``(h, w)`` in patches.
        how: Settings of the propagation.

    Returns:
        ``[N, C]``, rows of sum 1.
    """
    if how.first_labels == 'nearest':
        indices = torch.from_numpy(resize_indices(annotation, grid).astype(np.int64))
        return F.one_hot(indices.flatten(), objects + 1).float()
    maps = [torch.from_numpy(annotation == index).float() for index in range(objects + 1)]
    return torch.stack([_bilinear(each, grid).flatten() for each in maps], dim=1)


def object_maps(soft: Tensor, grid: tuple[int, int], size: tuple[int, int], min_max: bool) -> Iterator[Tensor]:
    """The map of every object, resized (bilinear).

    Args:
        soft: Labels of patches ``[N, C]``.
        grid: ``(h, w)`` in patches.
        size: Height and width of the maps.
        min_max: Whether to stretch each map to [0, 1]; one that is the same everywhere becomes 0.

    Yields:
        ``[height, width]``, of channel after channel.
    """
    for channel in soft.t():
        resized = _bilinear(channel.view(grid), size)
        if min_max:
            resized = resized - resized.min()
            resized = resized / resized.max().clamp_min(torch.finfo(resized.dtype).tiny)
        yield resized


def hard_labels(
    soft: Tensor, grid: tuple[int, int], size: tuple[int, int], original: tuple[int, int], how: Propagation
) -> np.ndarray:
    """The object of every pixel: the one whose map is greatest there, of equals the first.

    Args:
        soft: Labels of patches ``[N, C]``.
        grid: ``(h, w)`` in patches.
        size: Height and width of the frame for the encoder.
        original: Height and width of the result.
        how: Settings of the propagation.

    Returns:
        Indices ``[*original]``, uint8.
    """
    best: Tensor | None = None
    winner = torch.zeros(())
    # Map by map, so that many objects take no more memory than two.
    for index, each in enumerate(object_maps(soft, grid, size if how.upsample == 'input' else original, how.min_max)):
        if best is None:
            best, winner = each, torch.zeros_like(each, dtype=torch.uint8)
        else:
            winner = winner.masked_fill(each > best, index)
            best = torch.maximum(best, each)
    return resize_indices(winner.cpu().numpy(), original)


def resize_indices(indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Indices ``[H, W]`` uint8 at another size, by Pillow's nearest neighbours, whose rounding is DINO's."""
    if indices.shape == tuple(size):
        return indices
    return np.asarray(Image.fromarray(indices).resize(size[::-1], Image.Resampling.NEAREST))


def _bilinear(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None], size, mode='bilinear', align_corners=False)[0, 0]
