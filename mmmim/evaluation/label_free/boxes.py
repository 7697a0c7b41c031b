"""Boxes around objects, and how well they are found."""

from __future__ import annotations

import numpy as np

from mmmim.utils import InputError

#: Overlap with a box of the data set that a found one needs.
LEAST_IOU = 0.5


def box_of(mask: np.ndarray, cell: tuple[float, float], size: tuple[int, int] | None = None) -> np.ndarray:
    """The smallest box around patches.

    Args:
        mask: The patches, bool ``[h, w]``; one of them at least.
        cell: Height and width of a patch in pixels of the image.
        size: Height and width of the image, which patches of a padded image leave; None for no limit.

    Returns:
        ``(x0, y0, x1, y1)`` in pixels, the ends excluded.

    Raises:
        InputError: There are no patches.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise InputError('There is no box around no patches.')
    (high, wide), (bottom, right) = cell, (np.inf, np.inf) if size is None else size
    return np.array(
        [
            wide * columns.min(),
            high * rows.min(),
            min(wide * (columns.max() + 1), right),
            min(high * (rows.max() + 1), bottom),
        ]
    )


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, by areas as plain products of sides.

    Args:
        a: Boxes ``(x0, y0, x1, y1)``, ``[A, 4]``.
        b: Boxes, ``[B, 4]``.

    Returns:
        ``[A, B]``; 0 where both boxes are empty.
    """
    a, b = (np.asarray(each, np.float64).reshape(-1, 4) for each in (a, b))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    sides = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - low, 0, None)
    shared = sides.prod(axis=-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=-1) for each in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def is_found(box: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether a box has an IoU of 0.5 or more with any of ``boxes [B, 4]``."""
    return bool((box_iou(box, boxes) >= LEAST_IOU).any())
