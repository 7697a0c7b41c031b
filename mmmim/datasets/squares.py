"""Image files as squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from mmmim.utils import InputError

from .transforms.loading import UnreadableImageError, read_image


def read_square(path: str, size: int, channels: int = 3, window: Any = None) -> np.ndarray:
    """Read an image file as :func:`centre_square`, ``[size, size, channels]``.

    Raises:
        InputError: The file cannot be read.
    """
    return centre_square(_read(path, channels, window), size)


def centre_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of an image (bicubic, antialiased), and crop the centre.

    Args:
        pixels: ``[H, W, C]``, uint8 or of another type, which becomes float32.
        size: Side in pixels.

    Returns:
        ``[size, size, C]``.
    """
    sides = pixels.shape[1], pixels.shape[0]
    scale = size / min(sides)
    width, height = (max(size, round(side * scale)) for side in sides)
    left, top = (width - size) // 2, (height - size) // 2
    return _resize(pixels, (width, height))[top : top + size, left : left + size]


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels ``[H, W, C]`` at another width and height (bicubic, antialiased)."""

    def resize(part: np.ndarray) -> np.ndarray:
        # Pillow's bicubic filter widens with the scale: it is antialiased.
        return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC))

    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
    elif pixels.shape[2] == 3:
        return resize(pixels)
    return np.stack([resize(channel) for channel in np.moveaxis(pixels, 2, 0)], axis=2)


def read_stretched(path: str, size: int, channels: int = 3, window: Any = None) -> np.ndarray:
    """Read an image and resize it (bicubic, antialiased) to a square, whatever its aspect ratio is.

    Args:
        path: File of the image.
        size: Side in pixels.
        channels: C, see :class:`mmmim.datasets.LoadImage`.
        window: What becomes of more than eight bits, see :class:`mmmim.datasets.LoadImage`.

    Returns:
        ``[size, size, C]``.

    Raises:
        InputError: The file cannot be read.
    """
    return _resize(_read(path, channels, window), (size, size))


def _read(path: str, channels: int, window: Any) -> np.ndarray:
    try:
        return read_image(path, channels, window)
    except UnreadableImageError as error:
        raise InputError(f'{error}.') from None


def nearest_multiple(size: int, patch_size: int) -> int:
    """The multiple of the patch size nearest to an image size, at least one patch.

    Raises:
        InputError: The size is not positive.
    """
    if size < 1:
        raise InputError(f'An image cannot have {size} pixels per side.')
    return max(1, round(size / patch_size)) * patch_size
