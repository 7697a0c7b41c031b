"""IDX, the file format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from mmmim.utils import InputError
from mmmim.utils.files import open_regular

_MAX_BYTES = 2**30


def read_idx(path: str | os.PathLike, ndim: int) -> np.ndarray:
    """Read an array of bytes from an IDX file, compressed by gzip where its name ends in ``.gz``.

    Never more is decompressed than the header announces, at most 1 GiB.

    Args:
        path: The IDX file.
        ndim: Number of dimensions that it must have: 3 for images ``[n, H, W]``, 1 for labels ``[n]``.

    Returns:
        The array, uint8, which cannot be written to.

    Raises:
        InputError: The file cannot be read, is no IDX file of bytes with so many dimensions, or is not whole.
    """
    path = Path(path)
    try:
        with open_regular(path) as raw, gzip.open(raw) if path.suffix == '.gz' else raw as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, ndim)):
                raise InputError(f'{path} is no IDX file of bytes with {ndim} dimensions: get Fashion-MNIST anew')
            shape = np.frombuffer(file.read(4 * ndim), '>u4').tolist()
            size = math.prod(shape)
            if len(shape) != ndim or size > _MAX_BYTES:
                raise InputError(f'{path} announces an array of {shape}: get Fashion-MNIST anew')
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f'cannot read {path} ({error}): get Fashion-MNIST anew') from None
    if len(content) != size:
        raise InputError(f'{path} is not whole, or holds more than its header says: get Fashion-MNIST anew')
    return np.frombuffer(content, np.uint8).reshape(shape)
