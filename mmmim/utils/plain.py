"""Plain data: what ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_LEFT_OUT = object()


def to_plain(obj: Any, left_out: list[str] | None = None, name: str = '') -> Any:
    """Copy nested data as what ``torch.load(weights_only=True)`` reads.

    Dicts, lists, tuples, strings, numbers, bools and None stay, tensors move to the CPU; numpy data becomes numbers and
    lists, paths strings, sets lists, classes their dotted name. Anything else is left out of what holds it.

    Args:
        obj: Nested data of any kind.
        left_out: Filled with the dotted names of what was left out.
        name: Dotted name of ``obj``.
    """
    plain = _to_plain(obj, [] if left_out is None else left_out, name)
    return None if plain is _LEFT_OUT else plain


def _to_plain(obj: Any, left_out: list[str], name: str) -> Any:
    if obj is None or isinstance(obj, bool | torch.dtype | torch.device):
        return obj
    if isinstance(obj, torch.Tensor):
        return obj.detach().cpu()
    kind: Any
    for kind in (str, int, float, bytes):  # also cuts subclasses such as enumerations and numpy.float64 down
        if isinstance(obj, kind):
            return kind(obj)
    if isinstance(obj, np.ndarray | np.generic):
        return _to_plain(obj.tolist(), left_out, name)
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    if isinstance(obj, type):
        return f'{obj.__module__}.{obj.__qualname__}'
    if isinstance(obj, Mapping):
        items = {_plain_key(k): _to_plain(v, left_out, f'{name}.{k}'.strip('.')) for k, v in obj.items()}
        return {key: value for key, value in items.items() if value is not _LEFT_OUT}
    if isinstance(obj, list | tuple | set | frozenset | deque):
        values = [_to_plain(value, left_out, f'{name}.{i}'.strip('.')) for i, value in enumerate(obj)]
        values = [value for value in values if value is not _LEFT_OUT]
        return tuple(values) if isinstance(obj, tuple) else values
    left_out.append(f'{name} ({type(obj).__name__})')
    return _LEFT_OUT


def _plain_key(key: Any) -> str | int:
    return int(key) if isinstance(key, int | np.integer) else str(key)
