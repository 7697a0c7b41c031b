"""Pixels of more than eight bits, as eight."""

import logging
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmmim.utils import InputError

#: Share of the pixels, in per cent, that ``window='percentile'`` cuts off at either end.
_CUT = 0.5
#: Fewer grey levels than this, where the file has more, are worth a warning.
_FEW_LEVELS = 64
_WARNED: set[str] = set()
#: The window that is none: values of more than eight bits stay as they are.
KEEP = 'keep'


def check_window(window: Any) -> None:
    """Refuse what is no window of :func:`to_eight_bits`.

    Raises:
        InputError: Naming the option.
    """
    if window in (None, KEEP, 'minmax', 'percentile'):
        return
    is_pair = isinstance(window, (list, tuple)) and len(window) == 2
    if not (is_pair and all(isinstance(value, (int, float)) for value in window) and window[0] < window[1]):
        raise InputError(
            f"mmmim.LoadImage has no window {window!r}: give (low, high), 'minmax', 'percentile', 'keep' for the "
            'values as they are, or None for the upper eight of 16 bits'
        )


def to_eight_bits(values: np.ndarray, window: Any) -> np.ndarray:
    """Grey levels or colours of more than eight bits as uint8.

    Args:
        values: Any shape, integers or floating-point numbers.
        window: None: the upper eight of 16 bits, values outside of 16 bits clipped. ``(low, high)``: these become 0 and
            255, in all images alike. 'minmax': the least and the greatest value of the image are low and high.
            'percentile': so are its percentiles 0.5 and 99.5.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: Floating-point numbers without a window, or without a finite value.
    """
    if window is None:
        if values.dtype.kind == 'f':
            raise ValueError(
                'floating-point pixels have no defined white; give mmmim.LoadImage a window, such as window=(0, 1), '
                'window="keep" to train on the values themselves, or convert the file to 8 or 16 bit'
            )
        return (values.clip(0, 65535) >> 8).astype(np.uint8)
    numbers: np.ndarray = values.astype(np.float32)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        raise ValueError('no pixel is a finite number')
    if window == 'minmax':
        low, high = float(finite.min()), float(finite.max())
    elif window == 'percentile':
        low, high = (float(value) for value in np.percentile(finite, (_CUT, 100 - _CUT)))
    else:
        low, high = window
    inside = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low).clip(low, high)
    return ((inside - low) * (255 / ((high - low) or 1.0))).round().astype(np.uint8)


def what_is_lost(values: np.ndarray) -> str | None:
    """What ``window=None`` loses of integers of more than eight bits, in words; None where little."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        return f'has values from {low} to {high}: those outside of 0 to 65535 become black or white'
    levels = (high >> 8) - (low >> 8) + 1
    if levels <= _FEW_LEVELS and high - low >= levels:
        return f'has values from {low} to {high}, of which the upper eight of 16 bits are {levels} grey level(s)'
    return None


def warn_once(kind: str, message: str) -> None:
    """Log a warning of a kind for the first image that it concerns, in this process."""
    if kind not in _WARNED:
        _WARNED.add(kind)
        print_log(f'{message} (said once, of the first such image).', logger='current', level=logging.WARNING)
