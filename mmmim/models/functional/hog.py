"""Histograms of oriented gradients."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _window(size: int, device: torch.device) -> Tensor:
    """A Gaussian of standard deviation ``size / 2`` around the middle, of sum 1: ``[size, size]``."""
    x = torch.arange(size, dtype=torch.float32, device=device)
    side = torch.exp(-0.5 * ((x - x.mean()) / (size // 2)) ** 2)
    window = side[:, None] * side[None, :]
    return window / window.sum()


def hog(images: Tensor, bins: int = 9, cell: int = 8, window: int = 16) -> Tensor:
    """Directions of the gradients of every colour in every cell (MaskFeat, arXiv 2112.09133, section 3.2).

    Gradients are Sobel's, of images whose border is reflected. Each adds its length, weighted by a Gaussian that is
    repeated over the image, to the bin of its direction, of which there are ``bins`` in half a turn. Opposite
    directions share a bin. The histogram of a cell is scaled to length 1.

    Args:
        images: ``[B, C, H, W]``.
        bins: Number of directions.
        cell: Side of a cell in pixels, a divisor of H and W.
        window: Side of the Gaussian in pixels, a divisor of H and W.

    Returns:
        ``[B, C, bins, H / cell, W / cell]``, fp32.
    """
    channels, height, width = images.shape[1:]
    # In fp32, as one convolution: where a gradient is exactly horizontal, it is on the border of two bins, and only
    # the rounding of the same operations puts it into the same one.
    with torch.autocast(images.device.type, enabled=False):
        across = images.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=torch.float32)
        padded = F.pad(images.float(), (1, 1, 1, 1), mode='reflect')
        x, y = (
            F.conv2d(padded, kernel.expand(channels, 1, 3, 3).contiguous(), groups=channels)
            for kernel in (across, across.t())
        )
        length = torch.stack([x, y], dim=-1).norm(dim=-1)
        length = length * _window(window, images.device).repeat(height // window, width // window)
        direction = (torch.atan2(x, y) / math.pi * bins).floor().long() % bins
        length, direction = (v.unflatten(-1, (-1, cell)).unflatten(-3, (-1, cell)) for v in (length, direction))
        sums = [length.where(direction == i, 0.0).sum(dim=(-1, -3)) for i in range(bins)]
        return F.normalize(torch.stack(sums, dim=2), dim=2)
