"""Boxes around what label maps show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError
from mmmim.utils.names import printable
from mmmim.utils.options import Count


def boxes_of_labels(labels: np.ndarray, background: Sequence[int], least: int = 1) -> list[tuple[int, int, int, int]]:
    """A box around every 8-connected component of one label.

    Args:
        labels: Label map, ``[H, W]``.
        background: Labels that are no objects.
        least: Smaller components, in pixels, have no box.

    Returns:
        ``(x0, y0, x1, y1)``, the ends excluded.
    """
    from scipy.ndimage import find_objects, label

    boxes = []
    for value in np.setdiff1d(labels, background):
        components, _ = label(labels == value, structure=np.ones((3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        for (rows, columns), size in zip(find_objects(components), sizes, strict=True):
            if size >= least:
                boxes.append((columns.start, rows.start, columns.stop, rows.stop))
    return boxes


@TRANSFORMS.register_module()
class BoxesOfLabelMap(BaseTransform):
    """Make the boxes of an image from its label map: one around every connected piece of a class.

    Label maps do not tell objects of one class apart that touch each other: they share a box, and an object that
    another one divides has several.

    Required Keys:

    - gt_seg_map: ``[H, W]``.

    Added Keys:

    - gt_bboxes: ``(x0, y0, x1, y1)`` of each.

    Args:
        background: Labels that are no objects.
        least: Smaller pieces, in pixels, have no box.
    """

    def __init__(self, background: Sequence[int], least: Count = 1) -> None:
        self.background, self.least = tuple(background), least

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the boxes to ``results``.

        Raises:
            InputError: There are none.
        """
        boxes = boxes_of_labels(results['gt_seg_map'], self.background, self.least)
        if not boxes:
            raise InputError(
                f'The label map of {printable(results["img_path"])} shows no object: background and least of '
                'mmmim.BoxesOfLabelMap leave nothing of it.'
            )
        results['gt_bboxes'] = boxes
        return results
