"""The generator of FashionScenes: photographs of garments, alone and in collages, in pure numpy.

The garments are Fashion-MNIST's (H. Xiao, K. Rasul and R. Vollgraf, 2017, https://arxiv.org/abs/1708.07747; MIT
licence). Once the sources are read, pixels are made by integer arithmetic alone, on numbers from the frozen streams of
``numpy.random.RandomState``: the result does not depend on the machine or on library versions. (The backgrounds of
collages are JPEG files, so a decoder that rounds differently would change them; the checksums tell.)
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmmim.utils import InputError

from .idx import read_idx
from .scenes_generator import (
    BACKGROUND_LABEL,
    CANDIDATES,
    FIRST_LABEL,
    IMAGE_SIZE,
    MIN_CONTRAST,
    SPLITS,
    Scenes,
    backgrounds,
    blend,
    luminance,
    place,
)

#: Written beside the data; changes whenever a pixel or a label does.
VERSION = 1

CLASSES = ('t-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')
#: Of a split, in collages.
NUM_COLLAGES = {'train': 5_000, 'val': 500, 'test': 1_000}
#: Side of a garment in a collage in pixels, smallest and largest.
ITEM_SIZE = (16, 26)
#: Fewest and most garments of a collage.
ITEM_COUNT = (1, 5)

#: Brighter pixels belong to the garment. The background is 0 but for specks of up to a few units.
THRESHOLD = 8

#: The part of Fashion-MNIST that is brought along, and the files that Fashion-MNIST consists of.
EMBEDDED = Path(__file__).parent / 'fashion_mnist'
FILES = {
    'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
}

_ITEM = 28
_MIN_BACKGROUND_STD = 30


class Items(NamedTuple):
    """Garments on black.

    Attributes:
        images: Grey, ``[n, 28, 28]`` uint8.
        classes: ``[n]`` uint8, see :data:`CLASSES`.
    """

    images: np.ndarray
    classes: np.ndarray


def read_items(source: str | os.PathLike, part: str) -> Items:
    """Read ``train`` or ``test`` of Fashion-MNIST.

    Args:
        source: The folder of its four files, compressed or not.
        part: ``train`` or ``test``.

    Raises:
        InputError: A file is missing, broken, or not of Fashion-MNIST.
    """
    paths = []
    for name in FILES[part]:
        found = [path for path in (Path(source) / f'{name}.gz', Path(source) / name) if path.exists()]
        if not found:
            raise InputError(
                f"{source} holds no {name}.gz: put Fashion-MNIST's four files there (mmpretrain.FashionMNIST downloads "
                f"them, Debian's package dataset-fashion-mnist has them), or leave source out for the part that mmmim "
                f'brings along'
            )
        paths.append(found[0])
    items = Items(read_idx(paths[0], ndim=3), read_idx(paths[1], ndim=1))
    if items.images.shape != (len(items.classes), _ITEM, _ITEM) or set(np.unique(items.classes)) != set(range(10)):
        raise InputError(f'{paths[0]} and {paths[1]} are not Fashion-MNIST: images of 28 x 28 pixels in ten classes')
    return items


def split_items(source: str | os.PathLike, split: str) -> Items:
    """The garments of a split: ``val`` is the last tenth of every class of the training images."""
    items = read_items(source, 'test' if split == 'test' else 'train')
    if split == 'test':
        return items
    kept = []
    for label in range(10):
        of_class = np.flatnonzero(items.classes == label)
        bound = len(of_class) - len(of_class) // 10
        kept.append(of_class[:bound] if split == 'train' else of_class[bound:])
    index = np.sort(np.concatenate(kept))
    return Items(items.images[index], items.classes[index])


def generate(subset: str, split: str, source: str | os.PathLike = EMBEDDED) -> Scenes:
    """Make one split of one subset; the same arrays on every call.

    Args:
        subset: ``single`` (32 px, one garment on black) or ``multi`` (64 px, one to five on a photograph).
        split: ``train``, ``val`` or ``test``: each has garments of its own. Collages of train use the left halves of
            the photographs, those of val and test the right halves.
        source: The folder of Fashion-MNIST's files.
    """
    items = split_items(source, split)
    return _singles(items) if subset == 'single' else _collages(items, split)


def _singles(items: Items) -> Scenes:
    """Every garment, with a margin of 2 px, in three equal channels."""
    margin = (IMAGE_SIZE['single'] - _ITEM) // 2
    grey = np.pad(items.images, ((0, 0), (margin, margin), (margin, margin)))
    labels: np.ndarray = FIRST_LABEL + items.classes[:, None, None]
    label_maps = np.where(grey > THRESHOLD, labels, BACKGROUND_LABEL).astype(np.uint8)
    return Scenes(np.repeat(grey[..., None], 3, axis=-1), label_maps, items.classes.astype(np.int64))


def _collages(items: Items, split: str) -> Scenes:
    """One to five smaller, tinted garments on crops of photographs."""
    n, side = NUM_COLLAGES[split], IMAGE_SIZE['multi']
    rng = np.random.RandomState(SPLITS.index(split) + 1)
    images = backgrounds(rng, n, side, right_half=split != 'train', min_std=_MIN_BACKGROUND_STD)
    label_maps: np.ndarray = np.full((n, side, side), BACKGROUND_LABEL, np.uint8)

    fewest, most = ITEM_COUNT
    smallest, largest = ITEM_SIZE
    counts = rng.randint(fewest, most + 1, n, dtype=np.int64)
    which = rng.randint(0, len(items.classes), (n, most), dtype=np.int64)
    sizes = rng.randint(smallest, largest + 1, (n, most), dtype=np.int64)
    tops, lefts = place(rng, sizes, counts, (side, side))
    tints = rng.randint(0, 256, (n, most, CANDIDATES, 3), dtype=np.int64)

    for slot in range(most):
        for i in np.flatnonzero(slot < counts):
            size, item = sizes[i, slot], which[i, slot]
            window = np.s_[tops[i, slot] : tops[i, slot] + size, lefts[i, slot] : lefts[i, slot] + size]
            grey, alpha = resize_item(items.images[item], size)
            _paint(images[i][window], grey, alpha, tints[i, slot])
            label_maps[i][window][alpha >= 128] = FIRST_LABEL + items.classes[item]
    return Scenes(images, label_maps, counts)


def resize_item(item: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey and opacity, 0 to 255, of a garment ``[28, 28]`` averaged over areas to ``[size, size]``."""
    weights = _area_weights(size)
    inside = (item > THRESHOLD).astype(np.int64)
    area = weights @ inside @ weights.T  # up to 28 * 28
    total = weights @ (item * inside) @ weights.T
    return total // np.maximum(area, 1), area * 255 // _ITEM**2


@lru_cache(maxsize=32)
def _area_weights(size: int) -> np.ndarray:
    """Overlap of ``size`` output intervals with 28 input intervals, in units of 1 / size: ``[size, 28]`` int64."""
    first: np.ndarray = np.arange(size)[:, None] * _ITEM
    last: np.ndarray = np.arange(_ITEM) * size
    overlap = np.minimum(first + _ITEM, last + size) - np.maximum(first, last)
    return np.maximum(overlap, 0).astype(np.int64)


def _paint(window: np.ndarray, grey: np.ndarray, alpha: np.ndarray, tints: np.ndarray) -> None:
    """Blend one garment into its window of an image.

    Its tint is the first candidate with which the mean luminance contrasts with that below, or the one that contrasts
    most.

    Args:
        window: ``[s, s, 3]`` uint8, changed in place.
        grey: The garment, 0 to 255, ``[s, s]``.
        alpha: Opacity 0 to 255, ``[s, s]``.
        tints: Candidates ``[c, 3]``.
    """
    weight = max(int(alpha.sum()), 1)
    mean_below = (luminance(window.astype(np.int64)) * alpha).sum() // weight
    mean_grey = (grey * alpha).sum() // weight
    contrast = np.abs(luminance(tints) * mean_grey // 255 - mean_below)
    tint = tints[np.minimum(contrast, MIN_CONTRAST).argmax()]
    blend(window, grey[..., None] * tint // 255, alpha)
