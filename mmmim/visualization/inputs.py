"""What a user names on a command line: images, their size, a device."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from mmmim.datasets.image_folder import IMAGE_EXTENSIONS, list_images
from mmmim.datasets.transforms.loading import UnreadableImageError, read_image
from mmmim.utils import InputError


def find_images(sources: Sequence[str], limit: int) -> list[str]:
    """Paths of image files, and of the images below folders.

    Args:
        sources: Files and folders.
        limit: More images than this are thinned out evenly, so that a few of every class folder remain.

    Returns:
        At most ``limit`` paths.

    Raises:
        InputError: Something does not exist, or a folder holds no images.
    """
    if limit < 1:
        raise InputError(f'At most {limit} images: give a number of 1 or more.')
    paths: list[str] = []
    for source in sources:
        if os.path.isfile(source):
            paths.append(source)
            continue
        if not os.path.isdir(source):
            raise InputError(f'There is no image file or folder {source}.')
        names, _ = list_images(source, IMAGE_EXTENSIONS)
        if not names:
            raise InputError(f'No images in {source}: looked for {", ".join(sorted(IMAGE_EXTENSIONS))}.')
        paths += [os.path.join(source, name) for name in names]
    if len(paths) <= limit:
        return paths
    return [paths[(2 * i + 1) * len(paths) // (2 * limit)] for i in range(limit)]


def read_square(path: str, size: int) -> np.ndarray:
    """Read an image, resize its shorter side (bicubic, antialiased), and crop the centre.

    Args:
        path: The file.
        size: Side in pixels.

    Returns:
        RGB ``[size, size, 3]`` uint8.

    Raises:
        InputError: The file cannot be read.
    """
    image = _read(path)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    # Pillow's bicubic filter widens with the scale: it is antialiased.
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def read_stretched(path: str, size: int) -> np.ndarray:
    """Read an image and resize it (bicubic, antialiased) to a square, whatever its aspect ratio is.

    Args:
        path: The file.
        size: Side in pixels.

    Returns:
        RGB ``[size, size, 3]`` uint8.

    Raises:
        InputError: The file cannot be read.
    """
    return np.asarray(_read(path).resize((size, size), Image.Resampling.BICUBIC))


def _read(path: str) -> Image.Image:
    try:
        return Image.fromarray(read_image(path))
    except UnreadableImageError as error:
        raise InputError(f'{error}.') from None


def pick_device(name: str | None) -> torch.device:
    """The device of a name, or a GPU where there is one.

    Raises:
        InputError: There is no such device.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown names, and builds of torch without the device
        raise InputError(f'--device {name} cannot be used: {str(error).splitlines()[0]}') from None
    return device


def nearest_multiple(size: int, patch_size: int) -> int:
    """The multiple of the patch size nearest to an image size, at least one patch.

    Raises:
        InputError: The size is not positive.
    """
    if size < 1:
        raise InputError(f'An image cannot have {size} pixels per side.')
    return max(1, round(size / patch_size)) * patch_size
