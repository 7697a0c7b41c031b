"""Fashion-MNIST's files with few images, for tests."""

import gzip
from pathlib import Path

import numpy as np

from mmmim.datasets.fashion_scenes_generator import FILES


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, '>u4').tobytes() + array.tobytes()


def write_fashion_mnist(folder: Path, train: int, test: int) -> Path:
    """Random images of all ten classes, half of the files compressed."""
    rng = np.random.RandomState(0)
    for part, number in (('train', train), ('test', test)):
        images = rng.randint(0, 256, (number, 28, 28)).astype(np.uint8)
        (folder / f'{FILES[part][0]}.gz').write_bytes(gzip.compress(idx(images)))
        (folder / FILES[part][1]).write_bytes(idx(np.arange(number, dtype=np.uint8) % 10))
    return folder
