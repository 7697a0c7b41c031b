"""Pictures of depths and surface normals."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

from .image_table import draw_image_table

#: Sides of larger pictures are divided by whole numbers until they fit.
_LARGEST = 320
_UNKNOWN = 0.85


def paint_values(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours of depths ``[h, w, 1]``, from ``low`` to ``high``, or of unit vectors ``[h, w, 3]``, in [0, 1].

    What is not known is light grey.
    """
    known = np.isfinite(values).all(axis=2)
    if values.shape[2] == 3:
        length = np.linalg.norm(np.nan_to_num(values), axis=2, keepdims=True)
        colours = (np.nan_to_num(values) / np.maximum(length, 1e-6) + 1) / 2
    else:
        shade = ((np.nan_to_num(values[..., 0]) - low) / ((high - low) or 1.0)).clip(0, 1)
        colours = colormaps['viridis_r'](shade)[..., :3]
    return np.where(known[..., None], colours, _UNKNOWN)


def draw_value_maps(
    examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]], path: str | os.PathLike, title: str
) -> None:
    """Draw a row per image: the image, its true map and what is predicted.

    Args:
        examples: Image ``[H, W, 3]`` uint8, true and predicted map ``[h, w, C]``, and name of each.
        path: The picture to write.
        title: Title above all rows.
    """
    rows = []
    for image, true, predicted, _ in examples:
        known = true[np.isfinite(true)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        maps = [image, paint_values(true, low, high), paint_values(predicted, low, high)]
        rows.append([each[:: -(-max(each.shape) // _LARGEST), :: -(-max(each.shape) // _LARGEST)] for each in maps])
    draw_image_table(
        rows,
        path,
        ['image', 'truth', 'prediction'],
        [example[-1] for example in examples],
        title,
        'Depths: from the nearest (light) to the farthest (dark) of each image. Normals: axes as red, green and blue. '
        'Grey: not known.',
        aspect=examples[0][1].shape[0] / examples[0][1].shape[1],
    )
