"""Colours of numbered things, and of values of patches."""

import matplotlib
import numpy as np
from matplotlib.colors import hsv_to_rgb


def distinct_colours(number: int) -> np.ndarray:
    """RGBA ``[number, 4]``: as different as can be for few classes, a rainbow for many."""
    if number <= 10:
        return matplotlib.colormaps['tab10'](np.arange(number))
    if number <= 20:  # dark ones first: neighbours in this map are shades of one colour
        return matplotlib.colormaps['tab20'](np.r_[0:20:2, 1:20:2][:number])
    return matplotlib.colormaps['turbo'](np.linspace(0.03, 0.97, number))


def colour_sequence(number: int) -> np.ndarray:
    """RGB ``[number, 3]`` in [0, 1], of which each colour is the same however many there are."""
    known = distinct_colours(20)[:number, :3]
    hues = 0.12 + 0.618034 * np.arange(len(known), number) % 1
    levels = 0.55 + 0.45 * (0.754878 * np.arange(len(known), number) % 1)
    return np.concatenate([known, hsv_to_rgb(np.stack([hues % 1, 0 * hues + 0.65, levels], axis=1))])


def heat(values: np.ndarray) -> np.ndarray:
    """Values ``[h, w]`` as RGB ``[h, w, 3]`` uint8, from the least (dark) to the greatest (bright)."""
    low, high = float(values.min()), float(values.max())
    shades = (values - low) / (high - low) if high > low else np.zeros_like(values, dtype=np.float64)
    return matplotlib.colormaps['viridis'](shades, bytes=True)[..., :3]
