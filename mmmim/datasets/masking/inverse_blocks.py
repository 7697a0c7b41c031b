"""Masks that leave several small blocks visible (data2vec 2.0)."""

import torch
from torch import Tensor

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils.options import Count

from .strategies import Counts, _to_patch_mask


def small_blocks_set(num_masks: int, grid: tuple[int, int], blocks: int, side: int, rng: torch.Generator) -> Tensor:
    """Squares around random patches; cells beyond the border of the grid are moved onto it.

    Args:
        num_masks: Number of masks, G.
        grid: Rows and columns of patches, ``(h, w)``.
        blocks: Number of squares of each, whose middles are drawn with replacement.
        side: Side of a square.
        rng: Random generator on the CPU.

    Returns:
        ``[G, h, w]``, bool.
    """
    height, width = grid
    middles = torch.randint(height * width, (num_masks, blocks), generator=rng)
    offsets = torch.arange(side) - side // 2
    rows = (middles // width).unsqueeze(-1) + offsets
    columns = (middles % width).unsqueeze(-1) + offsets
    rows, columns = rows.clamp(0, height - 1).unsqueeze(-1), columns.clamp(0, width - 1).unsqueeze(-2)
    patches = torch.zeros(num_masks, height * width, dtype=torch.bool)
    return patches.scatter_(1, (rows * width + columns).flatten(1), True).view(num_masks, height, width)


@MASKINGS.register_module()
class InverseBlocksMasking:
    """Several small blocks stay visible; all other patches are predicted (data2vec 2.0, arXiv 2212.07525).

    ``num_blocks`` squares of ``block`` x ``block`` patches are drawn, which may overlap; then patches of them are
    hidden, or others shown, uniformly, until exactly ``num_visible`` are visible. An image has ``masks_per_image``
    masks, whose targets are made once. ViT-B/16 at 224 px: 39 of 196 visible, 5 blocks; ViT-L/16: 49, 7 blocks.

    Args:
        num_visible: Number of visible patches.
        num_blocks: Number of blocks.
        block: Side of a block in patches.
        masks_per_image: Number of masks of an image.

    Raises:
        InputError: When called: there are no more patches than are to be visible.
    """

    def __init__(
        self, num_visible: Count = 39, num_blocks: Count = 5, block: Count = 3, masks_per_image: Count = 16
    ) -> None:
        self.counts = Counts(None, num_visible=num_visible)
        self.num_visible, self.num_blocks, self.block = num_visible, num_blocks, block
        self.masks_per_image = masks_per_image

    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``visible [G, V]``, ``predict [G, 1, M]``, the masks of an image consecutive."""
        visible, masked, _ = self.counts(grid)
        masks = num_images * self.masks_per_image
        blocks = small_blocks_set(masks, grid, self.num_blocks, self.block, rng).flatten(1)
        # Patches of blocks before others, in random order among themselves.
        order = torch.rand(blocks.shape, generator=rng) + blocks
        chosen = torch.zeros_like(blocks).scatter_(1, order.topk(visible, dim=1).indices, True)
        mask = _to_patch_mask(chosen.view(masks, *grid), masked, rng)
        return PatchMask(
            visible=mask.visible,
            predict=mask.predict,
            image_index=torch.arange(num_images).repeat_interleave(self.masks_per_image),
            grid=grid,
        )
