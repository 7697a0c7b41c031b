"""Recordings whose sidecar says of every array by itself how exact it is: a table ``keys``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.utils import InputError

#: What says that an array is none of the results: they are read, or only tell of others.
_NO_RESULTS = ('input', 'information')
_ABSOLUTE = re.compile(r'abs (\d\S*?)(?=$|[\s;,(])(?: \((\d\S*):)?')
#: Of labels whose numbering is free.
_PARTITION = 'as a partition'


class Tolerances:
    """How far results may be off, by their names.

    Args:
        keys: Table ``keys`` of the sidecar, whose entries have a ``tolerance``: 'input', 'information', 'exact' or
            'abs 1e-5', with more words behind it; a number in parentheses and a colon behind it, 'abs 1e-7 (1e-5:
            ...)', is the larger error that holds.
        arrays: Arrays of the recording.

    Raises:
        InputError: The table does not say it of an array.
    """

    def __init__(self, keys: Any, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.stated = {name: self._stated(keys, name) for name in arrays}

    def is_input(self, name: str) -> bool:
        """Whether an array is no result."""
        return self.stated.get(name) is None

    def limit(self, name: str) -> float:
        """The greatest error, relative to the greatest value or to 1, whichever is more."""
        return (self.stated[name] or 0.0) / max(1.0, float(np.abs(self.arrays[name]).max(initial=0.0)))

    @staticmethod
    def _stated(keys: Any, name: str) -> float | None:
        entry = keys.get(name) if isinstance(keys, dict) else None
        text = entry.get('tolerance') if isinstance(entry, dict) else None
        if isinstance(text, str):
            if text.startswith(_NO_RESULTS):
                return None
            if text.startswith('exact'):
                return 0.0
            if (found := _ABSOLUTE.match(text)) is not None:
                try:
                    return max(float(number) for number in found.groups() if number is not None)
                except ValueError:
                    pass
        raise InputError(
            f"The JSON sidecar must say how exact {name!r} is: keys.{name}.tolerance is 'input', 'information', "
            "'exact' or 'abs NUMBER'."
        )


def partitions(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels that need to agree as partitions alone, numbered in one way; other arrays as they are.

    Args:
        about: The sidecar, in whose table ``keys`` their tolerance is 'exact as a partition'.
        arrays: Arrays of the recording or of the replay: maps of labels ``[h, w]``, or several, ``[n, h, w]``.
    """
    free = [name for name in arrays if _PARTITION in str(about['keys'].get(name))]
    found = dict(arrays)
    for name in free:
        maps = arrays[name] if arrays[name].ndim > 2 else arrays[name][None]
        found[name] = np.stack([_numbered(each) for each in maps]) if len(maps) else maps
    return found


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Labels by the place of their first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse.reshape(labels.shape)]


def unpack(bits: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Booleans of a shape from ``numpy.packbits`` of all of them.

    Raises:
        InputError: There are not as many.
    """
    count = int(np.prod(shape, dtype=object))
    if bits.dtype != np.uint8 or bits.ndim != 1 or len(bits) != -(-count // 8):
        raise InputError(f'{name} of the recording does not hold the bits of {" x ".join(map(str, shape))} values.')
    return np.unpackbits(bits, count=count).reshape(shape).astype(bool)


def whole(table: Mapping[str, Any], key: str, least: int = 0) -> int:
    """A whole number of a table.

    Raises:
        InputError: It is something else.
    """
    value = table[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f'{key}={str(value)[:80]} of the recording is no whole number of at least {least}.')
    return value
