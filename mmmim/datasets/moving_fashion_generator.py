"""The generator of MovingFashion: garments that move over photographs and hide each other, in pure numpy.

As in FashionScenes (:mod:`mmmim.datasets.fashion_scenes_generator`), pixels are made by integer arithmetic alone, on
numbers from frozen streams of ``numpy.random.RandomState``; only the JPEG decoder of the photographs is the machine's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .fashion_scenes_generator import Items, resize_item
from .scenes_generator import blend, place, wide_background

#: Written beside the data; changes whenever a pixel or an index does.
VERSION = 1

#: Height and width of frames, which clips have in turns.
SIZES = ((64, 96), (64, 112), (96, 64))
#: Side of a garment in pixels, smallest and largest.
ITEM_SIZE = (18, 30)
#: Most that a garment grows or shrinks, in pixels, and how far the background moves.
_GROWTH, _PAN = 5, 12
#: Positions are whole numbers of these parts of a pixel; slowest and fastest way in a frame along an axis.
_PARTS, _SLOWEST, _FASTEST = 16, 6, 32
#: Darkest light, of 256.
_DARKEST = 192
_MIN_BACKGROUND_STD = 25


class Clip(NamedTuple):
    """A generated video.

    Attributes:
        frames: RGB, ``[T, H, W, 3]`` uint8.
        indices: The object that is seen at every pixel, from 1, and 0 for the background, ``[T, H, W]`` uint8.
    """

    frames: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class _Garment:
    """A garment on its way: its picture, place, speed and size."""

    item: np.ndarray
    centre: np.ndarray
    speed: np.ndarray
    size: int
    growth: int

    def at(self, frame: int, bounds: np.ndarray) -> tuple[int, int, int]:
        """Top, left and side in pixels; the centre is thrown back by the borders of the image."""
        size = self.size + _swing(frame, self.growth)
        centre = _reflect(self.centre + frame * self.speed, bounds * _PARTS)
        top, left = ((centre - size * _PARTS // 2) // _PARTS).tolist()
        return top, left, size


def generate_clip(items: Items, number: int, frames: int, objects: tuple[int, int], seed: int) -> Clip:
    """Make a video; the same arrays on every call.

    Garments move evenly, bounce off the borders with half of them outside, grow and shrink, and cover each other in an
    order that stays; the background moves and the light changes. They are grey, as FashionScenes has single ones, so
    that colour does not tell one from another.

    Args:
        items: Garments to choose from.
        number: Number of the video, from 0.
        frames: Number of frames T.
        objects: Fewest and most garments.
        seed: Seed of all videos.
    """
    rng = np.random.RandomState([seed, number])
    height, width = SIZES[number % len(SIZES)]
    ground = wide_background(rng, (height + _PAN, width + _PAN), right_half=True, min_std=_MIN_BACKGROUND_STD)
    count = int(rng.randint(objects[0], objects[1] + 1, dtype=np.int64))
    bounds = np.array([height, width])
    garments = _garments(rng, items, (height, width), count)
    light = rng.randint(0, 2 * frames, dtype=np.int64)
    clip = Clip(np.empty((frames, height, width, 3), np.uint8), np.zeros((frames, height, width), np.uint8))
    for t in range(frames):
        down, across = _swing(t, _PAN), _swing(t + _PAN // 2, _PAN)
        image = ground[down : down + height, across : across + width].copy()
        for index, garment in enumerate(garments, start=1):
            _paint(image, clip.indices[t], index, garment, *garment.at(t, bounds))
        brightness = 256 - _swing(4 * t + int(light), 256 - _DARKEST)
        clip.frames[t] = (image.astype(np.int64) * brightness + 128) >> 8
    return clip


def checksum(clips: list[Clip]) -> str:
    """SHA-256 over the frames and indices of videos, as a hexadecimal string."""
    digest = hashlib.sha256()
    for array in (each for clip in clips for each in clip):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, 'u1').tobytes())
    return digest.hexdigest()


def _garments(rng: np.random.RandomState, items: Items, image: tuple[int, int], count: int) -> list[_Garment]:
    """Garments that overlap as little as they can in the first frame."""
    which = rng.randint(0, len(items.classes), count, dtype=np.int64)
    sizes = rng.randint(ITEM_SIZE[0], ITEM_SIZE[1] + 1 - _GROWTH, count, dtype=np.int64)
    corners = place(rng, sizes[None], np.array([count]), image)
    speeds = rng.randint(_SLOWEST, _FASTEST + 1, (count, 2), dtype=np.int64)
    speeds *= 2 * rng.randint(0, 2, (count, 2), dtype=np.int64) - 1
    growths = rng.randint(0, _GROWTH + 1, count, dtype=np.int64)
    centres = (2 * np.concatenate(corners).T + sizes[:, None]) * _PARTS // 2
    images = items.images[which]
    return [_Garment(*each) for each in zip(images, centres, speeds, sizes.tolist(), growths.tolist(), strict=True)]


def _paint(
    image: np.ndarray, indices: np.ndarray, index: int, garment: _Garment, top: int, left: int, size: int
) -> None:
    """Draw what is inside the image of a garment, and its index."""
    grey, alpha = resize_item(garment.item, size)
    rows, columns = (
        slice(max(start, 0), min(start + size, length))
        for start, length in zip((top, left), indices.shape, strict=True)
    )
    inside = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    grey, alpha = grey[inside], alpha[inside]
    blend(image[rows, columns], grey[..., None], alpha)
    indices[rows, columns][alpha >= 128] = index


def _swing(step: int, width: int) -> int:
    """Up from 0 to ``width`` and down again, one with every step."""
    return width - abs(step % (2 * width) - width) if width else 0


def _reflect(position: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Positions thrown back at 0 and at the bounds."""
    return bounds - np.abs(position % (2 * bounds) - bounds)
