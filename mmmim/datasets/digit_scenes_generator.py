"""The generator of DigitScenes: handwritten digits on crops of photographs, in pure numpy.

Once the sources are read, pixels are made by integer arithmetic alone, on numbers from the frozen streams of
``numpy.random.RandomState``: the result does not depend on the machine or on library versions. (The photographs are
JPEG files, so a decoder that rounds differently would change it; the checksums tell.)
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

#: Written beside the data; changes whenever a pixel or a label does.
VERSION = 1

SUBSETS = ('single', 'multi')
SPLITS = ('train', 'val', 'test')
NUM_IMAGES = {
    'single': {'train': 10_000, 'val': 1_000, 'test': 2_000},
    'multi': {'train': 5_000, 'val': 500, 'test': 1_000},
}
IMAGE_SIZE = {'single': 32, 'multi': 64}
#: Side of a pasted digit in pixels, smallest and largest.
DIGIT_SIZE = {'single': (27, 31), 'multi': (14, 22)}
#: Fewest and most digits of an image.
DIGIT_COUNT = {'single': (1, 1), 'multi': (1, 5)}

#: Label maps: 0 is unused (ADE20K's readers drop it), then the background, then the ten digits.
BACKGROUND_LABEL = 1
FIRST_DIGIT_LABEL = 2

_SHRINK = (2, 3, 4)
_MIN_BACKGROUND_STD = 45
_MIN_CONTRAST = 45
_CANDIDATES = 24


class Scenes(NamedTuple):
    """The images of one split.

    Attributes:
        images: RGB, ``[n, S, S, 3]`` uint8.
        label_maps: 1 for the background, 2 + digit on a digit, ``[n, S, S]`` uint8.
        classes: The digit (``single``) or the number of digits (``multi``) of every image, ``[n]`` int64.
    """

    images: np.ndarray
    label_maps: np.ndarray
    classes: np.ndarray


def generate(subset: str, split: str) -> Scenes:
    """Make one split of one subset; the same arrays on every call.

    Args:
        subset: ``single`` (32 px, one digit) or ``multi`` (64 px, one to five smaller digits).
        split: ``train``, ``val`` or ``test``. Train uses the left halves of the photographs, val and test the right
            halves; every split has handwritten digits of its own.
    """
    n, side = NUM_IMAGES[subset][split], IMAGE_SIZE[subset]
    rng = np.random.RandomState(1000 * SUBSETS.index(subset) + SPLITS.index(split) + 1)
    digits, digit_classes = _digits_of(split)
    images = _backgrounds(rng, n, side, right_half=split != 'train')
    label_maps: np.ndarray = np.full((n, side, side), BACKGROUND_LABEL, np.uint8)

    fewest, most = DIGIT_COUNT[subset]
    smallest, largest = DIGIT_SIZE[subset]
    counts = rng.randint(fewest, most + 1, n, dtype=np.int64)
    which = rng.randint(0, len(digits), (n, most), dtype=np.int64)
    sizes = rng.randint(smallest, largest + 1, (n, most), dtype=np.int64)
    tops, lefts = _place(rng, sizes, counts, side)
    colours = rng.randint(0, 256, (n, most, _CANDIDATES, 3), dtype=np.int64)

    for slot in range(most):
        for size in range(smallest, largest + 1):
            rows = np.flatnonzero((slot < counts) & (sizes[:, slot] == size))
            alphas = _alpha(digits[which[rows, slot]], size)
            for i, alpha in zip(rows, alphas, strict=True):
                window = np.s_[tops[i, slot] : tops[i, slot] + size, lefts[i, slot] : lefts[i, slot] + size]
                _paint(images[i][window], alpha, colours[i, slot])
                label_maps[i][window][alpha >= 128] = FIRST_DIGIT_LABEL + digit_classes[which[i, slot]]
    classes = counts if subset == 'multi' else digit_classes[which[:, 0]]
    return Scenes(images, label_maps, classes)


def checksum(scenes: Scenes) -> str:
    """SHA-256 over the decoded pixels, the label maps and the classes of a split, as a hexadecimal string."""
    digest = hashlib.sha256()
    for array, dtype in zip(scenes, ('u1', 'u1', '<i8'), strict=True):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _sources() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """The 1 797 digits ``[1797, 8, 8]`` (ink 0 to 16), their classes and the two photographs ``[427, 640, 3]``."""
    from sklearn.datasets import load_digits, load_sample_images

    bunch = load_digits()
    photographs = tuple(np.asarray(photo, np.int64) for photo in load_sample_images().images)
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64), photographs


def _digits_of(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits of a split (70, 15 and 15 per cent of every class) and their classes."""
    digits, classes, _ = _sources()
    rng = np.random.RandomState(0)
    chosen: list[np.ndarray] = []
    for label in range(10):
        order = rng.permutation(np.flatnonzero(classes == label))
        bounds = {'train': (0, 70), 'val': (70, 85), 'test': (85, 100)}[split]
        start, stop = (len(order) * percent // 100 for percent in bounds)
        chosen.append(order[start:stop])
    index = np.concatenate(chosen)
    return digits[index], classes[index]


def _backgrounds(rng: np.random.RandomState, n: int, side: int, right_half: bool) -> np.ndarray:
    """Random busy crops of one half of the photographs, at random scale, mirrored at random: ``[n, side, side, 3]``."""
    sources = []
    for photo in _sources()[2]:
        half = np.split(photo, 2, axis=1)[int(right_half)]
        for factor in _SHRINK:
            shrunk = _block_mean(half, factor)
            sources.append((shrunk, _busy_corners(shrunk, side)))
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


def _busy_corners(photo: np.ndarray, side: int) -> np.ndarray:
    """Top left corners ``[m, 2]`` of the crops whose luminance varies enough: plain sky would give the digit away."""
    grey = _luminance(photo)
    total, squares = _box_sum(grey, side), _box_sum(grey**2, side)
    area = side**2
    return np.argwhere(squares * area - total**2 >= (_MIN_BACKGROUND_STD * area) ** 2)


def _box_sum(grey: np.ndarray, side: int) -> np.ndarray:
    """Sum over every ``side`` x ``side`` window."""
    table = np.pad(grey.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]


def _luminance(rgb: np.ndarray) -> np.ndarray:
    return (77 * rgb[..., 0] + 150 * rgb[..., 1] + 29 * rgb[..., 2]) >> 8


def _place(
    rng: np.random.RandomState, sizes: np.ndarray, counts: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Top and left of every digit, ``[n, slots]`` each: of several random places the one that overlaps least."""
    n, slots = sizes.shape
    tops, lefts = np.zeros((2, n, slots), np.int64)
    draws = rng.randint(0, 2**31, (2, slots, n, _CANDIDATES), dtype=np.int64)
    for slot in range(slots):
        size = sizes[:, slot, None]
        top, left = draws[:, slot] % (side - size + 1)
        overlap = np.zeros((n, _CANDIDATES), np.int64)
        for other in range(slot):
            high = np.minimum(top + size, (tops[:, other] + sizes[:, other])[:, None])
            wide = np.minimum(left + size, (lefts[:, other] + sizes[:, other])[:, None])
            height = high - np.maximum(top, tops[:, other, None])
            width = wide - np.maximum(left, lefts[:, other, None])
            overlap += np.maximum(height, 0) * np.maximum(width, 0) * (other < counts)[:, None]
        best = overlap.argmin(1)
        tops[:, slot], lefts[:, slot] = top[np.arange(n), best], left[np.arange(n), best]
    return tops, lefts


def _alpha(digits: np.ndarray, size: int) -> np.ndarray:
    """Opacity 0 to 255 of digits ``[n, 8, 8]`` enlarged to ``[n, size, size]``, with edges about a pixel soft."""
    weights = _cubic_weights(size)
    ink = weights @ digits @ weights.T  # up to 16 * 1024 * 1024
    low, high = 16 * 1024**2 * 33 // 100, 16 * 1024**2 * 66 // 100
    return np.clip((ink - low) * 255 // (high - low), 0, 255)


@lru_cache(maxsize=32)
def _cubic_weights(size: int) -> np.ndarray:
    """Catmull-Rom interpolation from 8 to ``size`` samples, in units of 1 / 1024: ``[size, 8]`` int64."""
    centre = (np.arange(size) + 0.5) * 8 / size - 0.5
    first = np.floor(centre).astype(np.int64) - 1
    weights: np.ndarray = np.zeros((size, 8), np.int64)
    for tap in range(4):
        x = np.abs(centre - (first + tap))
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        value = np.rint(1024 * np.where(x <= 1, near, far)).astype(np.int64)
        np.add.at(weights, (np.arange(size), np.clip(first + tap, 0, 7)), value)
    return weights


def _paint(window: np.ndarray, alpha: np.ndarray, colours: np.ndarray) -> None:
    """Blend one digit into its window of an image.

    The colour is the first candidate whose luminance contrasts with 95 per cent of the pixels under the digit, or the
    one that contrasts with most of them.

    Args:
        window: ``[s, s, 3]`` uint8, changed in place.
        alpha: Opacity 0 to 255, ``[s, s]``.
        colours: Candidates ``[c, 3]``.
    """
    below: np.ndarray = window.astype(np.int64)
    grey = _luminance(below)[alpha >= 128]
    too_close = (np.abs(_luminance(colours)[:, None] - grey) < _MIN_CONTRAST).sum(1)
    colour = colours[np.maximum(too_close, len(grey) // 20).argmin()]
    opacity = alpha[..., None]
    window[...] = (opacity * colour + (255 - opacity) * below + 127) // 255
