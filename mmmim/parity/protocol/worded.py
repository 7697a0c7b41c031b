"""Sidecars that say of every array what it is and how exactly it must be met: ``keys.NAME.tolerance``, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.utils import InputError

#: Words for arrays that are read, and for those that are not compared.
INPUT, INFORMATION = 'input', 'information'
#: Of labels whose numbering is free.
PARTITION = 'as a partition'


def tolerance_of(about: Mapping[str, Any], name: str) -> str:
    """The words about an array.

    Raises:
        InputError: There are none.
    """
    about_array = about['keys'].get(name)
    words = about_array.get('tolerance') if isinstance(about_array, Mapping) else None
    if not isinstance(words, str):
        raise InputError(
            f'The JSON sidecar does not say how exactly {name} must be met: it lacks keys.{name}.tolerance.'
        )
    return words


def absolute_limit(words: str) -> float | None:
    """The greatest absolute error by ``'exact'``, ``'abs 1e-7'`` or ``'abs 1e-7 (1e-5: affinities are fp32)'``.

    Returns:
        0 for exact; None for what is not compared.

    Raises:
        InputError: They say something else.
    """
    if words == INFORMATION:
        return None
    if re.match(r'exact\b', words):
        return 0.0
    number = r'\d(?:[\d.]*\d)?(?:e-?\d+)?'
    found = re.match(rf'abs ({number})(?: \(({number}):)?', words)
    if found is None:
        raise InputError(f'The JSON sidecar words a tolerance {words!r:.80}: it must be input, exact or abs NUMBER.')
    return max(float(each) for each in found.groups() if each is not None)


def partition(labels: np.ndarray) -> np.ndarray:
    """Labels numbered by the place of their first member, so that equal partitions are equal arrays."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse.reshape(labels.shape)]


def partitions(labels: np.ndarray) -> np.ndarray:
    """:func:`partition` of one map ``[h, w]``, or of each of several, ``[n, h, w]``."""
    return np.stack([partition(each) for each in labels]) if labels.ndim > 2 and len(labels) else partition(labels)
