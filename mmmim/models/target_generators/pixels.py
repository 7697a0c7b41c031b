"""Pixels as targets (MAE)."""

from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.utils.options import Count, Positive

from ..functional import low_pass
from ..interfaces import Encoder, Sizes, TargetGenerator
from ..layers import patchify, pick_patches, unpatchify
from ..teacher import TeacherView


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that normalised pixel targets divide out.

    Args:
        patches: ``[..., C * patch_size**2]``.

    Returns:
        Mean, and root of unbiased variance plus 1e-6, over all values of a patch: each ``[..., 1]``.
    """
    # On a CPU an eighth of the time of torch.var_mean, which updates both value by value.
    mean = patches.mean(dim=-1, keepdim=True)
    variance = (patches - mean).square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)
    return mean, (variance + 1e-6).sqrt()


@MODELS.register_module()
class PixelTarget(TargetGenerator):
    """The pixels of the predicted patches (MAE, arXiv 2111.06377).

    Values are those of the normalised images; a patch is flattened row by row, pixel by pixel, colour last.

    Args:
        patch_size: Side of a patch in pixels.
        normalize: Subtract from every patch its mean and divide by its standard deviation, over pixels and colours
            ("normalised pixels").
        in_channels: Channels of the images.
        low_pass: Cut-off of an ideal low-pass filter that images go through first, in cycles per side of the image
            (PixMIM, arXiv 2303.02416); None for none.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        patch_size: Count = 16,
        normalize: bool = True,
        in_channels: Count = 3,
        low_pass: Positive | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size, self.normalize, self.in_channels = patch_size, normalize, in_channels
        self.low_pass = low_pass
        self.out_dim = in_channels * patch_size**2

    def sizes(self) -> Sizes:
        """Channels, patches, and width of the targets."""
        return {
            'channels': ('in_channels', self.in_channels),
            'patch size': ('patch_size', self.patch_size),
            'prediction width': ('out_dim', self.out_dim),
        }

    def filtered(self, images: Tensor) -> Tensor:
        """What targets are cut out of: images ``[B, C, H, W]`` without high frequencies, in fp32."""
        return images.float() if self.low_pass is None else low_pass(images.float(), self.low_pass)

    def patches(self, images: Tensor) -> Tensor:
        """All patches of images ``[B, C, H, W]``, colour last and not normalised: ``[B, N, patch_size**2 * C]``."""
        return self._colour_last(patchify(images, self.patch_size))

    def _colour_last(self, patches: Tensor) -> Tensor:
        return patches.unflatten(-1, (self.in_channels, -1)).transpose(-1, -2).flatten(-2)

    def images(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of :meth:`patches` on a grid: ``[B, C, H, W]``."""
        channels_first = patches.unflatten(-1, (-1, self.in_channels)).transpose(-1, -2).flatten(-2)
        return unpatchify(channels_first, grid, self.in_channels)

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Not used; every target generator takes it.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, patch_size**2 * C]`` in fp32.
        """
        patches = self._colour_last(pick_patches(self.filtered(images), self.patch_size, mask.flat_predict(), mask))
        if self.normalize:
            mean, std = patch_statistics(patches)
            patches = (patches - mean) / std
        return Target(patches=patches)
