"""Images to patch tokens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.structures.patch_mask import PatchMask, gather_patches
from mmmim.utils import InputError


def patch_grid(size: tuple[int, int] | torch.Size, patch_size: int) -> tuple[int, int]:
    """Patches per side ``(h, w)`` of an image of ``size`` (height, width) in pixels.

    Raises:
        InputError: The patch size does not divide the image.
    """
    # Sizes stay symbols where torch.export has them; where torch.jit.trace does, they are those of the example.
    height, width = (int(side) if isinstance(side, Tensor) else side for side in (size[-2], size[-1]))
    if height % patch_size or width % patch_size:
        low, high = (
            (max(height // patch_size, 1), max(width // patch_size, 1)),
            (
                math.ceil(height / patch_size),
                math.ceil(width / patch_size),
            ),
        )
        raise InputError(
            f'The patch size {patch_size} does not divide an image of {height} x {width} pixels: resize or crop to '
            f'{low[0] * patch_size} x {low[1] * patch_size} or {high[0] * patch_size} x {high[1] * patch_size}, '
            'or change patch_size.'
        )
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images ``[B, C, H, W]`` into flat patches ``[B, N, C * patch_size**2]``, row-major."""
    h, w = patch_grid(images.shape[-2:], patch_size)
    patches = images.unflatten(-1, (w, patch_size)).unflatten(-3, (h, patch_size))  # B C h p w p
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, grid: tuple[int, int], channels: int = 3) -> Tensor:
    """Put patches ``[B, N, C * patch_size**2]`` of ``grid`` together: ``[B, C, H, W]``, the inverse of patchify."""
    side = math.isqrt(patches.shape[-1] // channels)
    tiles = patches.unflatten(-1, (channels, side, side)).unflatten(1, grid)  # B h w C p p
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(-2).flatten(-3, -2)


def pick_patches(images: Tensor, patch_size: int, indices: Tensor, mask: PatchMask) -> Tensor:
    """Cut some patches out of images, at the places that a mask says.

    Where ``mask.offsets`` is given, the image is divided into cells, larger than a patch, and every patch lies at its
    offset inside its cell (non-contiguous patches, Latent MIM, arXiv 2407.15837, section 3.5).

    Args:
        images: ``[B, C, H, W]``.
        patch_size: Side of a patch in pixels.
        indices: Patches of each mask, ``[G, M]``, int64 in ``[0, N)``.
        mask: Mask that the patches belong to: it has their images, the grid and maybe offsets.

    Returns:
        ``[G, M, C * patch_size**2]``.

    Raises:
        InputError: The images do not divide into the cells of the mask's grid.
    """
    if mask.offsets is None:
        return gather_patches(patchify(images, patch_size), indices, mask.image_index)
    (height, width), (h, w) = images.shape[-2:], mask.grid
    if height % h or width % w or min(height // h, width // w) < patch_size:
        raise InputError(
            f'Images of {height} x {width} pixels do not divide into {h} x {w} cells of patches of {patch_size} '
            'pixels: their sides must be multiples of patch_size + gap.'
        )
    corner = torch.stack([indices // w * (height // h), indices % w * (width // w)], dim=-1)
    corner = corner + mask.offsets[mask.image_index.unsqueeze(1), indices]  # G M 2
    span = torch.arange(patch_size, device=images.device)
    rows, columns = (corner.unsqueeze(-1) + span).unbind(-2)  # G M p
    image = mask.image_index.view(-1, 1, 1, 1)
    patches = images[image, :, rows.unsqueeze(-1), columns.unsqueeze(-2)]  # G M p p C
    return patches.permute(0, 1, 4, 2, 3).flatten(2)


class PatchEmbed(nn.Module):
    """A convolution with kernel = stride = patch size, applied to the patches that are looked at only.

    Args:
        patch_size: Side of a patch in pixels.
        dim: Width D of the embedded patches.
        in_channels: Channels of the images.
    """

    def __init__(self, patch_size: int, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(dim, in_channels, patch_size, patch_size))
        self.bias = nn.Parameter(torch.empty(dim))
        nn.init.xavier_uniform_(self.weight.view(dim, -1))
        # The default of nn.Conv2d, which the reference keeps.
        bound = 1 / math.sqrt(in_channels * patch_size**2)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, images: Tensor, mask: PatchMask | None = None) -> Tensor:
        """Embed patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: Mask whose visible patches are embedded; None for all.

        Returns:
            ``[G, V, D]``, or ``[B, N, D]`` without a mask.
        """
        if mask is None:
            patches = patchify(images, self.patch_size)
        else:
            patches = pick_patches(images, self.patch_size, mask.visible, mask)
        return F.linear(patches, self.weight.flatten(1), self.bias)
