"""Images as users have them, as batches of squares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmmim.datasets.squares import centre_square, nearest_multiple, read_square
from mmmim.datasets.transforms.bands import as_floats
from mmmim.datasets.transforms.decoding import ReadOptions, pixels_of
from mmmim.datasets.transforms.depth import KEEP
from mmmim.utils import InputError

#: One image: the path of a file, a PIL image, an array ``[H, W, C]`` or ``[H, W]``, or a tensor ``[C, H, W]``, uint8.
OneImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
#: What an extractor takes: a batch of tensors, one image, or a list of images.
Images: TypeAlias = Tensor | OneImage | Sequence[OneImage]

_WANT = (
    'the path of a file, a PIL image, an array [H, W, C] or [H, W] of uint8, a tensor [B, C, H, W] with values from 0 '
    'to 255, or a list of images'
)


def squares_of(images: Any, size: int, channels: int, window: Any = None) -> Tensor:
    """Images as a batch: resized at the shorter side (bicubic, antialiased) and cropped to the central square.

    Of files and PIL images the EXIF orientation is applied, transparency is dropped, and grey and colours become what
    the encoder takes.

    Args:
        images: One image, or a list or tuple of them (:data:`OneImage`).
        size: Side of the squares in pixels.
        channels: Channels C that the encoder takes.
        window: What becomes of more than eight bits, see :class:`mmmim.datasets.LoadImage`; with 'keep' arrays of other
            types than uint8 are images, too.

    Returns:
        ``[B, C, size, size]``, uint8, or float32 where more bits are kept.

    Raises:
        InputError: Something else, or a file that cannot be read.
    """
    several = isinstance(images, list | tuple)
    if several and not images:
        raise InputError(f'The list of images is empty: give {_WANT}.')
    squares = []
    for place, image in enumerate(images if several else [images]):
        if isinstance(image, str | os.PathLike):
            squares.append(read_square(os.fspath(image), size, channels, window))
        else:
            pixels = _pixels(image, ReadOptions(channels, window), f'[{place}]' if several else '')
            squares.append(centre_square(pixels, size))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)


def resized_batch(images: Tensor, size: int) -> Tensor:
    """A batch ``[B, C, H, W]`` as :func:`squares_of` makes them, ``[B, C, size, size]``, where it was."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    squares = np.stack([centre_square(each, size) for each in pixels])
    return torch.from_numpy(squares).permute(0, 3, 1, 2).to(images.device)


def check_size(size: int, patch_size: int) -> int:
    """Refuse a side of images that the patch size does not divide; returns it.

    Raises:
        InputError: Naming the nearest one.
    """
    fits = nearest_multiple(size, patch_size)
    if fits != size:
        raise InputError(f'size={size}: the patch size {patch_size} does not divide it, give {fits} for example.')
    return size


def _pixels(image: Any, options: ReadOptions, place: str) -> np.ndarray:
    """Pixels ``[H, W, C]`` of an image in memory; ``place`` says which of a list it is."""
    channels = options.channels
    if isinstance(image, Image.Image):
        return _of_pillow(image, options, place)
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise _refused(image, place, 'a tensor in a list is one image, [C, H, W].')
        if image.dtype == torch.uint8 and image.shape[0] not in (1, channels):
            raise _refused(image, place, f'it has {image.shape[0]} channel(s), and the encoder takes {channels}.')
        image = image.permute(1, 2, 0).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise InputError(f'images{place} is a {type(image).__name__}: give {_WANT}.')
    if options.window == KEEP and image.dtype.kind in 'uif':
        image = as_floats(image)
    elif image.dtype != np.uint8:
        of_floats = image.dtype.kind == 'f'
        remedy = ': of values in [0, 1] (255 * array).round().astype(np.uint8) makes one.' if of_floats else '.'
        raise _refused(image, place, f'an array must be of uint8, values from 0 to 255{remedy}')
    if image.ndim == 4:
        raise _refused(image, place, 'an array is one image: give a list of them, list(array).')
    if image.ndim not in (2, 3) or not image.size:
        raise _refused(image, place, 'an array is one image, [H, W, C] or [H, W].')
    image = image[..., None] if image.ndim == 2 else image
    found = image.shape[2]
    if found == channels:
        return image
    if found == 1:
        return np.repeat(image, channels, axis=2)
    if image.shape[0] == channels:
        raise _refused(image, place, 'the channels of an array are last: give array.transpose(1, 2, 0).')
    if found == 3 and channels == 1:
        return _of_pillow(Image.fromarray(image), options, place)
    alpha = f' If the last is transparency, give array[..., :{channels}].' if found == channels + 1 else ''
    raise _refused(image, place, f'it has {found} channels, and the encoder takes {channels}.{alpha}')


def _of_pillow(image: Image.Image, options: ReadOptions, place: str) -> np.ndarray:
    channels = options.channels
    if options.keeps_values:
        raise InputError(
            f'images{place} is a PIL image, and the encoder takes {channels} channel(s) of any depth: give arrays '
            f'[H, W, {channels}] or paths.'
        )
    try:
        return pixels_of(image.copy(), f'images{place}', options)
    except (OSError, ValueError) as error:  # of files that Pillow reads only now
        raise InputError(f'images{place} is a PIL image that cannot be decoded: {error}') from error


def _refused(image: Any, place: str, why: str) -> InputError:
    kind = 'a tensor' if isinstance(image, Tensor) else 'an array'
    return InputError(f'images{place} is {kind} {list(image.shape)} of {image.dtype}: {why}')
