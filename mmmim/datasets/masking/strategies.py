"""Masking strategies: which patches of a batch of images are seen and which are predicted."""

import math
from typing import Protocol

import torch
from torch import Tensor

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.options import Count

from .functional import block_set, random_subset, roll_set, uniform_set
from .units import in_units


class MaskingStrategy(Protocol):
    """What a masking strategy is: a callable that draws the masks of one batch.

    It is called once per batch, so that a strategy can share sizes over the batch and give an image several masks or
    several target blocks. All its randomness comes from the generator it is given.
    """

    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw masks.

        Args:
            num_images: Number of images, B.
            grid: ``(h, w)`` in patches.
            rng: Random generator on the CPU.

        Returns:
            Masks on the CPU.
        """
        ...


class Counts:
    """Exact numbers of patches from ratios: ``int(N * mask_ratio)`` masked, a share of these predicted.

    Of units larger than a patch ``ceil(N * mask_ratio)`` are masked, as in SimMIM (arXiv 2111.09886) and ConMIM.

    Args:
        mask_ratio: Share of the patches that are masked.
        predict_ratio: Share of the masked patches that are predicted; None for all, or with ``num_predicted``.
        num_visible: Number of visible patches, instead of ``mask_ratio``.
        num_predicted: Number of predicted patches, instead of ``predict_ratio``.
        unit: Side of a unit in patches where units are drawn instead of patches; what is counted are units then.

    Raises:
        InputError: A ratio or number out of range, both ``mask_ratio`` and ``num_visible`` or none of them, or both
            ``predict_ratio`` and ``num_predicted``.
    """

    def __init__(
        self,
        mask_ratio: float | None,
        predict_ratio: float | None = None,
        num_visible: int | None = None,
        num_predicted: int | None = None,
        unit: Count = 1,
    ) -> None:
        if (mask_ratio is None) == (num_visible is None):
            raise InputError('masking: give either mask_ratio or num_visible')
        if num_visible is not None and num_visible < 1:
            raise InputError(f'num_visible={num_visible}: must be at least 1')
        if mask_ratio is not None and not 0 < mask_ratio < 1:
            raise InputError(f'mask_ratio={mask_ratio}: must be above 0 and below 1')
        if predict_ratio is not None and num_predicted is not None:
            raise InputError('masking: give either predict_ratio or num_predicted, and None for the other')
        if predict_ratio is not None and not 0 < predict_ratio <= 1:
            raise InputError(f'predict_ratio={predict_ratio}: must be above 0 and at most 1 (all masked patches)')
        if num_predicted is not None and num_predicted < 1:
            raise InputError(f'num_predicted={num_predicted}: must be at least 1')
        self.mask_ratio, self.num_visible = mask_ratio, num_visible
        self.predict_ratio, self.num_predicted = predict_ratio, num_predicted
        self.round = math.ceil if unit > 1 else int

    def __call__(self, grid: tuple[int, int]) -> tuple[int, int, int]:
        """Numbers of visible, masked and predicted patches of a grid.

        Raises:
            InputError: One of them would be zero, or more patches are to be predicted than are masked.
        """
        total = grid[0] * grid[1]
        if self.mask_ratio is None:
            masked = total - (self.num_visible or 0)
            if masked < 1:
                raise InputError(
                    f'num_visible={self.num_visible} masks none of the {total} patches of the {grid[0]} x {grid[1]} '
                    'grid; use fewer, larger images or smaller patches'
                )
        else:
            masked = self.round(total * self.mask_ratio)
        predicted = self.num_predicted or int(masked * (1 if self.predict_ratio is None else self.predict_ratio))
        if masked == 0:
            raise InputError(
                f'mask_ratio={self.mask_ratio} masks none of the {total} patches of the {grid[0]} x {grid[1]} grid; '
                'use a greater ratio, larger images or smaller patches'
            )
        if masked == total:
            raise InputError(
                f'mask_ratio={self.mask_ratio} leaves none of the {total} patches of the {grid[0]} x {grid[1]} grid '
                'visible; use a smaller ratio, larger images or smaller patches'
            )
        if predicted == 0:
            raise InputError(
                f'predict_ratio={self.predict_ratio} of {masked} masked patches is no patch to predict; use a greater '
                f'ratio (one patch is a share of {1 / masked:.3g}), larger images or smaller patches'
            )
        if predicted > masked:
            raise InputError(
                f'num_predicted={predicted}: only {masked} of the {total} patches of the {grid[0]} x {grid[1]} grid '
                'are masked; use a smaller number, larger images or smaller patches'
            )
        return total - masked, masked, predicted


def _to_patch_mask(visible: Tensor, num_predicted: int, rng: torch.Generator) -> PatchMask:
    """One mask per image from the visible sets ``[B, h, w]``, which all have as many patches."""
    num_images, height, width = visible.shape
    flat = visible.flatten(1)
    masked = (~flat).nonzero()[:, 1].view(num_images, -1)
    return PatchMask(
        visible=flat.nonzero()[:, 1].view(num_images, -1),
        predict=random_subset(masked, num_predicted, rng).unsqueeze(1),
        image_index=torch.arange(num_images),
        grid=(height, width),
    )


def _rolled(patches: Tensor, rng: torch.Generator) -> Tensor:
    """Sets ``[B, h, w]``, each shifted by random numbers of rows and columns."""
    shifts = torch.stack([torch.randint(side, (len(patches),), generator=rng) for side in patches.shape[1:]])
    return roll_set(patches, shifts)


@MASKINGS.register_module()
class UniformMasking:
    """Visible patches drawn uniformly: one mask per image, one target block.

    ``int(N * mask_ratio)`` patches are masked; ``int(masked * predict_ratio)`` of them, or ``num_predicted``, are
    predicted.

    Args:
        mask_ratio: Share of the patches that are masked.
        predict_ratio: Share of the masked patches that are predicted. Defaults to None, all of them.
        roll: Shift every mask with wrap-around; a uniform set stays uniform, so this is for comparisons only.
        num_visible: Number of visible patches, instead of ``mask_ratio``.
        num_predicted: Number of predicted patches, instead of ``predict_ratio``.
        unit: Side in patches of the units that are drawn: all patches of a unit are masked, predicted or seen. Numbers
            and ratios are of units then, and ``ceil(units * mask_ratio)`` are masked.

    Raises:
        InputError: A ratio out of range, or, when called, one that gives no visible, masked or predicted patch.
    """

    def __init__(
        self,
        mask_ratio: float | None = None,
        predict_ratio: float | None = None,
        roll: bool = False,
        num_visible: int | None = None,
        num_predicted: int | None = None,
        unit: Count = 1,
    ) -> None:
        self.counts = Counts(mask_ratio, predict_ratio, num_visible, num_predicted, unit)
        self.roll, self.unit = roll, unit

    @in_units
    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``visible [B, V]``, ``predict [B, 1, M]``."""
        num_visible, _, num_predicted = self.counts(grid)
        visible = uniform_set(num_images, grid, num_visible, rng)
        return _to_patch_mask(_rolled(visible, rng) if self.roll else visible, num_predicted, rng)


@MASKINGS.register_module()
class BlockMasking:
    """The masked patches form one block: one mask per image, one target block.

    ``int(N * mask_ratio)`` patches are masked, ``int(masked * predict_ratio)`` of them, drawn uniformly, predicted.

    Args:
        mask_ratio: Share of the patches that are masked.
        predict_ratio: Share of the masked patches that are predicted. Defaults to None, all of them.
        roll: Shift every mask by a random number of rows and columns with wrap-around. Without it the middle of the
            image is in the block far more often than its border.
        aspect_ratio: Least and greatest height over width of the block; log-uniform in between, as far as it fits.
        num_predicted: Number of predicted patches, instead of ``predict_ratio``.
        unit: Side in patches of the units that are drawn: all patches of a unit are masked, predicted or seen. Numbers
            and ratios are of units then, and ``ceil(units * mask_ratio)`` are masked.

    Raises:
        InputError: An option out of range, or, when called, a ratio that gives no visible, masked or predicted patch
            or a block that fits nowhere.
    """

    block_is_visible = False

    def __init__(
        self,
        mask_ratio: float,
        predict_ratio: float | None = None,
        roll: bool = False,
        aspect_ratio: tuple[float, float] = (0.5, 2.0),
        num_predicted: int | None = None,
        unit: Count = 1,
    ) -> None:
        if not (len(aspect_ratio) == 2 and 0 < aspect_ratio[0] <= aspect_ratio[1]):
            raise InputError(f'aspect_ratio={aspect_ratio}: must be two positive numbers, the smaller one first')
        self.counts = Counts(mask_ratio, predict_ratio, num_predicted=num_predicted, unit=unit)
        self.roll, self.unit = roll, unit
        self.aspect_ratio = aspect_ratio

    @in_units
    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``visible [B, V]``, ``predict [B, 1, M]``."""
        num_visible, num_masked, num_predicted = self.counts(grid)
        num_block = num_visible if self.block_is_visible else num_masked
        block = block_set(num_images, grid, num_block, self.aspect_ratio, rng)
        if self.roll:
            block = _rolled(block, rng)
        return _to_patch_mask(block if self.block_is_visible else ~block, num_predicted, rng)


@MASKINGS.register_module()
class InverseBlockMasking(BlockMasking):
    """The visible patches form one block, everything else is masked (CAPI, arXiv 2502.08769).

    Options and errors of :class:`BlockMasking`. CAPI: ``mask_ratio=0.65, predict_ratio=0.05, roll=True``.
    """

    block_is_visible = True
