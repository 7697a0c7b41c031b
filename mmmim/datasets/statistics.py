"""What images of a folder are: channels, bits, sizes, and mean and standard deviation of every channel."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from mmmim.utils import InputError
from mmmim.utils.names import printable
from mmmim.utils.progress import progress
from mmmim.utils.workers import outlived_by_parent

from .transforms.bands import bands_of, describe
from .transforms.decoding import ReadOptions, UnreadableImageError, decode, one_line
from .transforms.loading import read_file
from .transforms.pillow import PILLOW_ERRORS

#: Files whose headers say how many channels the images have, where nobody does.
_LOOKED_AT = 64
#: Images that a worker reads at a time.
_BATCH = 8


@dataclass
class Moments:
    """Mean and sum of squared deviations of every channel, in float64, merged exactly (Chan, Golub & LeVeque 1983).

    Attributes:
        count: Number of values of a channel.
        mean: Mean of every channel, ``[C]``.
        squares: Sum of the squared deviations from it, ``[C]``.
        low: Least value of every channel, ``[C]``.
        high: Greatest value of every channel, ``[C]``.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Those of an image ``[H, W, C]``."""
        flat: np.ndarray = values.reshape(-1, values.shape[-1]).astype(np.float64)
        mean = flat.mean(axis=0)
        return cls(len(flat), mean, ((flat - mean) ** 2).sum(axis=0), flat.min(axis=0), flat.max(axis=0))

    def __add__(self, other: Moments) -> Moments:
        """Those of both."""
        count, step = self.count + other.count, other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        squares = self.squares + other.squares + step**2 * (self.count * other.count / count)
        return Moments(count, mean, squares, np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of every channel, ``[C]``; of all values, not an estimate from a sample."""
        return np.sqrt(self.squares / self.count)


@dataclass
class FolderStatistics:
    """What was found in a folder.

    Attributes:
        channels: Channels that the images were read with, C.
        moments: Mean and deviation of every channel, every pixel counting the same; None without a readable image.
        images: Number of the images that could be read.
        types: How many images there are of each type of values, such as 'uint16'.
        own_channels: How many images there are of each number of channels, as their files have it.
        heights: Least and greatest height.
        widths: Least and greatest width.
        unreadable: Why the others could not be read, each with its path.
    """

    channels: int
    moments: Moments | None = None
    images: int = 0
    types: Counter[str] = field(default_factory=Counter)
    own_channels: Counter[int] = field(default_factory=Counter)
    heights: tuple[int, int] = (0, 0)
    widths: tuple[int, int] = (0, 0)
    unreadable: list[str] = field(default_factory=list)

    @property
    def bits(self) -> int | None:
        """Bits that the greatest value needs, of whole numbers from 0; None of others."""
        if self.moments is None or any(name[0] == 'f' for name in self.types) or self.moments.low.min() < 0:
            return None
        return int(self.moments.high.max()).bit_length()

    def add(self, moments: Moments, shape: Sequence[int], kind: str, own: int) -> None:
        """Count an image of a shape ``[H, W, C]``."""
        height, width = shape[:2]
        first = self.moments is None
        self.moments = moments if self.moments is None else self.moments + moments
        self.heights = (height, height) if first else (min(self.heights[0], height), max(self.heights[1], height))
        self.widths = (width, width) if first else (min(self.widths[0], width), max(self.widths[1], width))
        self.images += 1
        self.types[kind] += 1
        self.own_channels[own] += 1


class _Images(Dataset):
    """Moments, shape, type and own channels of every file, or what is wrong with it."""

    def __init__(self, paths: Sequence[str], options: ReadOptions) -> None:
        self.paths, self.options = paths, options

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        path, options = self.paths[index], self.options
        try:
            data = read_file(path, options.max_bytes)
            own = _own_channels(data, path, options)
            values = bands_of(data, options.channels, options.limit, options.all_formats)
            if values is None:
                values = decode(data, path, options)
            elif values.dtype.kind == 'f' and not np.isfinite(values).all():
                raise ValueError('some of its values are NaN or infinite')
        except UnreadableImageError as error:
            return str(error)
        except InputError:  # of a library that is missing
            raise
        except PILLOW_ERRORS as error:
            return f'cannot read image {printable(path)}: {one_line(error)}'
        return Moments.of(values), values.shape, str(values.dtype), own


def measure(paths: Sequence[str], channels: int | None = None, workers: int = 0) -> FolderStatistics:
    """Mean and standard deviation of every channel of image files, and what else a training has to know of them.

    Args:
        paths: Files of images; the progress is printed.
        channels: Channels to read them with; None for the number that most files have, of those looked at.
        workers: Processes that read; 0 for this one.

    Raises:
        InputError: A library is missing that the files need.
    """
    found = FolderStatistics(channels or _most_common_channels(paths))
    options = ReadOptions(found.channels, 'keep')
    loader = DataLoader(_Images(paths, options), _BATCH, num_workers=workers, collate_fn=list)
    for batch in progress(outlived_by_parent(loader), f'batches of {_BATCH} images'):
        for each in batch:
            if isinstance(each, str):
                found.unreadable.append(each)
            else:
                found.add(*each)
    return found


def _own_channels(data: bytes, path: str | os.PathLike, options: ReadOptions) -> int:
    try:
        return describe(data, options.limit, options.all_formats)[0]
    except ImportError:
        raise InputError(
            f'{printable(path)} is a TIFF file of bands that the library tifffile reads: pip install "mmmim[tiff]"'
        ) from None


def _most_common_channels(paths: Sequence[str]) -> int:
    """The number of channels of most of some files; of equally many, the greater; 3 where none can be read."""
    options, numbers = ReadOptions(), Counter[int]()
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            numbers[_own_channels(read_file(path, options.max_bytes), path, options)] += 1
        except UnreadableImageError:
            continue
        except InputError:
            raise
        except PILLOW_ERRORS:
            continue
    return max(numbers, key=lambda number: (numbers[number], number), default=3)


def header_size(path: str) -> tuple[int, int] | None:
    """Height and width of an image file, of which as little as possible is read; None where that does not tell."""
    try:
        with open(path, 'rb') as file:
            start = file.read(1 << 16)
        options = ReadOptions()
        return describe(start, options.limit, options.all_formats)[1]
    except (*PILLOW_ERRORS, ImportError):
        return None
