"""The generator of DigitScenes: handwritten digits on crops of photographs, in pure numpy.

Once the sources are read, pixels are made by integer arithmetic alone, on numbers from the frozen streams of
``numpy.random.RandomState``: the result does not depend on the machine or on library versions. (The photographs are
JPEG files, so a decoder that rounds differently would change it; the checksums tell.)
"""

from functools import lru_cache

import numpy as np

from .scenes_generator import (
    BACKGROUND_LABEL,
    CANDIDATES,
    FIRST_LABEL,
    IMAGE_SIZE,
    MIN_CONTRAST,
    SPLITS,
    SUBSETS,
    Scenes,
    backgrounds,
    blend,
    luminance,
    place,
)

#: Written beside the data; changes whenever a pixel or a label does.
VERSION = 1

NUM_IMAGES = {
    'single': {'train': 10_000, 'val': 1_000, 'test': 2_000},
    'multi': {'train': 5_000, 'val': 500, 'test': 1_000},
}
#: Side of a pasted digit in pixels, smallest and largest.
DIGIT_SIZE = {'single': (27, 31), 'multi': (14, 22)}
#: Fewest and most digits of an image.
DIGIT_COUNT = {'single': (1, 1), 'multi': (1, 5)}

_MIN_BACKGROUND_STD = 45


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
    images = backgrounds(rng, n, side, right_half=split != 'train', min_std=_MIN_BACKGROUND_STD)
    label_maps: np.ndarray = np.full((n, side, side), BACKGROUND_LABEL, np.uint8)

    fewest, most = DIGIT_COUNT[subset]
    smallest, largest = DIGIT_SIZE[subset]
    counts = rng.randint(fewest, most + 1, n, dtype=np.int64)
    which = rng.randint(0, len(digits), (n, most), dtype=np.int64)
    sizes = rng.randint(smallest, largest + 1, (n, most), dtype=np.int64)
    tops, lefts = place(rng, sizes, counts, side)
    colours = rng.randint(0, 256, (n, most, CANDIDATES, 3), dtype=np.int64)

    for slot in range(most):
        for size in range(smallest, largest + 1):
            rows = np.flatnonzero((slot < counts) & (sizes[:, slot] == size))
            alphas = _alpha(digits[which[rows, slot]], size)
            for i, alpha in zip(rows, alphas, strict=True):
                window = np.s_[tops[i, slot] : tops[i, slot] + size, lefts[i, slot] : lefts[i, slot] + size]
                _paint(images[i][window], alpha, colours[i, slot])
                label_maps[i][window][alpha >= 128] = FIRST_LABEL + digit_classes[which[i, slot]]
    classes = counts if subset == 'multi' else digit_classes[which[:, 0]]
    return Scenes(images, label_maps, classes)


@lru_cache(maxsize=1)
def _handwritten() -> tuple[np.ndarray, np.ndarray]:
    """The 1 797 digits ``[1797, 8, 8]`` (ink 0 to 16) that scikit-learn brings along, and their classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)


def _digits_of(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits of a split (70, 15 and 15 per cent of every class) and their classes."""
    digits, classes = _handwritten()
    rng = np.random.RandomState(0)
    chosen: list[np.ndarray] = []
    for label in range(10):
        order = rng.permutation(np.flatnonzero(classes == label))
        bounds = {'train': (0, 70), 'val': (70, 85), 'test': (85, 100)}[split]
        start, stop = (len(order) * percent // 100 for percent in bounds)
        chosen.append(order[start:stop])
    index = np.concatenate(chosen)
    return digits[index], classes[index]


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
    grey = luminance(window.astype(np.int64))[alpha >= 128]
    too_close = (np.abs(luminance(colours)[:, None] - grey) < MIN_CONTRAST).sum(1)
    colour = colours[np.maximum(too_close, len(grey) // 20).argmin()]
    blend(window, colour, alpha)
