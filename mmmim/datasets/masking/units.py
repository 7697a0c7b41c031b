"""Masks in units of several patches (SimMIM, arXiv 2111.09886): a strategy draws on the coarser grid of units."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Protocol

import torch
from torch import Tensor

from mmmim.structures import PatchMask
from mmmim.utils import InputError


class _HasUnit(Protocol):
    unit: int


def patches_of_units(units: Tensor, grid: tuple[int, int], unit: int) -> Tensor:
    """The patches of units.

    Args:
        units: Indices of units ``[..., K]``, row-major over the grid of units.
        grid: ``(h, w)`` in patches, both multiples of ``unit``.
        unit: Side of a unit in patches, U.

    Returns:
        Indices of patches ``[..., K * U**2]``, row-major over ``grid`` and ascending in every row.
    """
    width = grid[1]
    row, column = units // (width // unit), units % (width // unit)
    inside = torch.arange(unit)
    offsets = (inside.unsqueeze(1) * width + inside).flatten()
    corner = (row * width + column) * unit
    return (corner.unsqueeze(-1) + offsets).flatten(-2).sort(dim=-1).values


def in_units(draw: Callable[..., PatchMask]) -> Callable[..., PatchMask]:
    """Give the ``__call__`` of a masking strategy its option ``unit``: all patches of a unit have the same fate.

    The strategy draws as ever, on the grid of units; its ratios and numbers are of units then.
    """

    @wraps(draw)
    def call(strategy: _HasUnit, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        unit = strategy.unit
        if unit == 1:
            return draw(strategy, num_images, grid, rng)
        if grid[0] % unit or grid[1] % unit:
            raise InputError(
                f'unit={unit} does not divide the {grid[0]} x {grid[1]} grid of patches: use another unit, or images '
                f'whose sides are multiples of {unit} patches'
            )
        coarse = (grid[0] // unit, grid[1] // unit)
        try:
            mask = draw(strategy, num_images, coarse, rng)
        except InputError as error:
            raise InputError(f'{error} (with unit={unit}, patches here are units of {unit} x {unit} patches)') from None
        visible, predict = (patches_of_units(units, grid, unit) for units in (mask.visible, mask.predict))
        return replace(mask, visible=visible, predict=predict, grid=grid)

    return call
