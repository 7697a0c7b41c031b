"""Pictures of segmentations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmcv.image import imresize

from .image_table import draw_image_table

#: Sides of larger pictures are divided by whole numbers until they fit.
_LARGEST = 320
#: Chequers of ignored pixels: squares along the longer side, and colours.
_CHEQUERS = (40, np.array([[150] * 3, [255] * 3], np.uint8))


class Segmentation(NamedTuple):
    """A segmented image.

    Attributes:
        image: RGB, ``[H, W, 3]`` uint8; of any size, as it is drawn at that of the labels.
        labels: Label map ``[h, w]``.
        predicted: Predicted label map ``[h, w]``.
        name: Name of the image.
    """

    image: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    name: str


def paint_labels(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """The colours of labels; what is no class of the palette, such as ignored pixels, is chequered.

    Args:
        labels: Label map, ``[h, w]``.
        palette: RGB of every class.

    Returns:
        ``[h, w, 3]`` uint8.
    """
    squares, colours = _CHEQUERS
    longer = max(labels.shape)
    rows, columns = (np.arange(length) * min(squares, longer) // longer for length in labels.shape)
    picture = colours[(rows[:, None] + columns) % 2]
    known = (labels >= 0) & (labels < len(palette))
    picture[known] = np.asarray(palette, np.uint8)[labels[known]]
    return picture


def draw_segmentations(
    examples: Sequence[Segmentation], palette: Sequence[Sequence[int]], path: str | os.PathLike, title: str
) -> None:
    """Draw a row per image: the image, its labels and what is predicted.

    Args:
        examples: What to draw.
        palette: RGB of every class.
        path: The picture to write.
        title: Title above all rows.
    """
    rows = []
    for example in examples:
        height, width = example.labels.shape
        step = -(-max(height, width) // _LARGEST)
        image = imresize(example.image, (-(-width // step), -(-height // step)), interpolation='area')
        rows.append([image, *(paint_labels(m[::step, ::step], palette) for m in (example.labels, example.predicted))])
    draw_image_table(
        rows,
        path,
        ['image', 'label', 'prediction'],
        [example.name for example in examples],
        title,
        "Classes have the colours of the data set's palette; chequers: ignored pixels.",
    )
