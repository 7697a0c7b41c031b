"""Histograms of oriented gradients as targets (MaskFeat)."""

import torch
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.options import Count

from ..functional import hog
from ..interfaces import Encoder, Sizes, TargetGenerator
from ..layers import patch_grid
from ..teacher import TeacherView


@MODELS.register_module()
class HOGTarget(TargetGenerator):
    """Histograms of oriented gradients of the predicted patches (MaskFeat, arXiv 2112.09133).

    Of the normalised images, see :func:`mmmim.models.functional.hog`; a patch has the histograms of its cells in the
    order (colour, bin, row, column). They are those of mmpretrain's ``HOGGenerator``, which knows 14 x 14 patches only.

    Args:
        patch_size: Side of a patch in pixels.
        bins: Number of directions.
        cell: Side of a cell in pixels, a divisor of the patch size.
        window: Side of the Gaussian that weighs gradients, a divisor of the sides of images.
        in_channels: Channels of the images.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: Cells do not divide a patch.
    """

    def __init__(
        self,
        patch_size: Count = 16,
        bins: Count = 9,
        cell: Count = 8,
        window: Count = 16,
        in_channels: Count = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if patch_size % cell:
            raise InputError(f'HOGTarget.cell={cell} does not divide patches of {patch_size} pixels: use a divisor.')
        self.patch_size, self.bins, self.cell, self.window = patch_size, bins, cell, window
        self.in_channels = in_channels
        self.out_dim = in_channels * bins * (patch_size // cell) ** 2

    def sizes(self) -> Sizes:
        """Channels, patches, and width of the targets."""
        return {
            'channels': ('in_channels', self.in_channels),
            'patch size': ('patch_size', self.patch_size),
            'prediction width': ('out_dim', self.out_dim),
        }

    @torch.no_grad()
    def patches(self, images: Tensor) -> Tensor:
        """Histograms of all patches of images ``[B, C, H, W]``: ``[B, N, out_dim]``.

        Raises:
            InputError: Patches or the Gaussian do not divide the images.
        """
        height, width = images.shape[-2:]
        grid = patch_grid((height, width), self.patch_size)
        if height % self.window or width % self.window:
            raise InputError(
                f'HOGTarget.window={self.window} does not divide images of {height} x {width} pixels: use a divisor.'
            )
        cells = hog(images, self.bins, self.cell, self.window).flatten(1, 2)  # B C*bins H/cell W/cell
        tiles = cells.unflatten(-1, (grid[1], -1)).unflatten(-3, (grid[0], -1))  # B C*bins h c w c
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Not used; every target generator takes it.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, out_dim]`` in fp32.

        Raises:
            InputError: Patches do not touch each other, or sides do not fit.
        """
        if mask.offsets is not None:
            raise InputError('HOGTarget needs patches that touch each other: set gap=0 in the collate function.')
        return Target(patches=gather_patches(self.patches(images), mask.flat_predict(), mask.image_index))
