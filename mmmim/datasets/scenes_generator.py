"""What the generated data sets have in common: photographs as backgrounds, places of things on them, checksums.

Pixels are made by integer arithmetic alone, on numbers from the frozen streams of ``numpy.random.RandomState``, so that
they do not depend on the machine or on library versions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

SUBSETS = ('single', 'multi')
SPLITS = ('train', 'val', 'test')
IMAGE_SIZE = {'single': 32, 'multi': 64}

#: Label maps: 0 is unused (ADE20K's readers drop it), then the background, then the ten classes.
BACKGROUND_LABEL = 1
FIRST_LABEL = 2

#: Random places, and random colours, among which the best is taken.
CANDIDATES = 24
#: Of luminance, between a thing and what it covers.
MIN_CONTRAST = 45

_SHRINK = (2, 3, 4)


class Scenes(NamedTuple):
    """The images of one split.

    Attributes:
        images: RGB, ``[n, S, S, 3]`` uint8.
        label_maps: 1 for the background, 2 + class on a thing, ``[n, S, S]`` uint8.
        classes: Class of the thing (``single``, 0 to 9) or the number of things (``multi``), ``[n]`` int64.
    """

    images: np.ndarray
    label_maps: np.ndarray
    classes: np.ndarray


def checksum(scenes: Scenes) -> str:
    """SHA-256 over the decoded pixels, the label maps and the classes of a split, as a hexadecimal string."""
    digest = hashlib.sha256()
    for array, dtype in zip(scenes, ('u1', 'u1', '<i8'), strict=True):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _photographs() -> tuple[np.ndarray, ...]:
    """The two photographs that scikit-learn brings along, ``[427, 640, 3]``."""
    from sklearn.datasets import load_sample_images

    return tuple(np.asarray(photo, np.int64) for photo in load_sample_images().images)


def wide_background(rng: np.random.RandomState, size: tuple[int, int], right_half: bool, min_std: int) -> np.ndarray:
    """One random busy crop of a half of the photographs at half their size, for a window that moves over it.

    Args:
        rng: The stream of random numbers.
        size: Height and width of the crop in pixels.
        right_half: Whether the right halves are cropped, or the left ones.
        min_std: Least standard deviation of the crop's luminance.

    Returns:
        ``[*size, 3]`` uint8.
    """
    photos = _photographs()
    half = np.split(photos[rng.randint(0, len(photos), dtype=np.int64)], 2, axis=1)[int(right_half)]
    shrunk = _block_mean(half, _SHRINK[0])
    corners = _busy_corners(shrunk, size, min_std)
    top, left = corners[rng.randint(0, 2**31, dtype=np.int64) % len(corners)]
    return shrunk[top : top + size[0], left : left + size[1]].astype(np.uint8)


def backgrounds(rng: np.random.RandomState, n: int, side: int, right_half: bool, min_std: int) -> np.ndarray:
    """Random busy crops of one half of the photographs, at random scale, mirrored at random.

    Args:
        rng: The stream of random numbers.
        n: Number of crops.
        side: Side of a crop in pixels, S.
        right_half: Whether the right halves are cropped, or the left ones.
        min_std: Least standard deviation of a crop's luminance: plain sky would give things away.

    Returns:
        ``[n, S, S, 3]`` uint8.
    """
    sources = []
    for photo in _photographs():
        half = np.split(photo, 2, axis=1)[int(right_half)]
        for factor in _SHRINK:
            shrunk = _block_mean(half, factor)
            sources.append((shrunk, _busy_corners(shrunk, (side, side), min_std)))
    which = rng.randint(0, len(sources), n, dtype=np.int64)
    corner = rng.randint(0, 2**31, n, dtype=np.int64)
    mirror = rng.randint(0, 2, n, dtype=np.int64)
    crops: np.ndarray = np.empty((n, side, side, 3), np.uint8)
    for i in range(n):
        shrunk, corners = sources[which[i]]
        top, left = corners[corner[i] % len(corners)]
        crop = shrunk[top : top + side, left : left + side]
        crops[i] = crop[:, ::-1] if mirror[i] else crop
    return crops


def _block_mean(photo: np.ndarray, factor: int) -> np.ndarray:
    """Shrink a photograph by an integer factor: the rounded mean of every block."""
    height, width = (length // factor for length in photo.shape[:2])
    blocks = photo[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return (blocks.sum((1, 3)) + factor**2 // 2) // factor**2


def _busy_corners(photo: np.ndarray, size: tuple[int, int], min_std: int) -> np.ndarray:
    """Top left corners ``[m, 2]`` of the crops whose luminance varies enough."""
    grey = luminance(photo)
    total, squares = _box_sum(grey, size), _box_sum(grey**2, size)
    area = size[0] * size[1]
    return np.argwhere(squares * area - total**2 >= (min_std * area) ** 2)


def _box_sum(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sum over every window of a size."""
    height, width = size
    table = np.pad(grey.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Of integer colours ``[..., 3]`` from 0 to 255, in the same units."""
    return (77 * rgb[..., 0] + 150 * rgb[..., 1] + 29 * rgb[..., 2]) >> 8


def place(
    rng: np.random.RandomState, sizes: np.ndarray, counts: np.ndarray, image: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Top and left of every thing, ``[n, slots]`` each: of several random places the one that overlaps least.

    Args:
        rng: The stream of random numbers.
        sizes: Sides of the things in pixels, ``[n, slots]``.
        counts: How many of the slots an image uses, ``[n]``.
        image: Height and width of the images in pixels.
    """
    n, slots = sizes.shape
    tops, lefts = np.zeros((2, n, slots), np.int64)
    draws = rng.randint(0, 2**31, (2, slots, n, CANDIDATES), dtype=np.int64)
    for slot in range(slots):
        size = sizes[:, slot, None]
        top, left = (draw % (length - size + 1) for draw, length in zip(draws[:, slot], image, strict=True))
        overlap = np.zeros((n, CANDIDATES), np.int64)
        for other in range(slot):
            high = np.minimum(top + size, (tops[:, other] + sizes[:, other])[:, None])
            wide = np.minimum(left + size, (lefts[:, other] + sizes[:, other])[:, None])
            height = high - np.maximum(top, tops[:, other, None])
            width = wide - np.maximum(left, lefts[:, other, None])
            overlap += np.maximum(height, 0) * np.maximum(width, 0) * (other < counts)[:, None]
        best = overlap.argmin(1)
        tops[:, slot], lefts[:, slot] = top[np.arange(n), best], left[np.arange(n), best]
    return tops, lefts


def blend(window: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> None:
    """Paint over a window of an image.

    Args:
        window: ``[s, s, 3]`` uint8, changed in place.
        above: The colour, or colours ``[s, s, 3]``, 0 to 255.
        alpha: Opacity 0 to 255, ``[s, s]``.
    """
    opacity = alpha[..., None]
    window[...] = (opacity * above + (255 - opacity) * window.astype(np.int64) + 127) // 255
