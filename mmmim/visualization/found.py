"""Pictures of what was found in images without labels: objects with their boxes, and clusters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmcv.image import imresize

from mmmim.evaluation.label_free.clusters import spread
from mmmim.evaluation.label_free.methods import FoundObject

from .colours import colour_sequence, heat
from .image_table import draw_image_table
from .segmentations import paint_labels

#: Pixels of the longer side of a picture.
SIDE = 480
#: RGB of found boxes and masks, and of boxes of the data set.
FOUND, GIVEN = (255, 40, 40), (40, 255, 40)
#: Share of the colours of masks and clusters over the image.
_MASK, _CLUSTERS = 0.45, 0.7


class Example(NamedTuple):
    """An image and what was found in it.

    Attributes:
        name: Name of the image.
        image: RGB, ``[H, W, 3]`` uint8.
        boxes: Boxes of the data set, ``[B, 4]``; empty where there are none.
        found: What each encoder found, by its name: all of one kind, :class:`FoundObject` or
            :class:`mmmim.evaluation.label_free.methods.FoundClusters`.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray
    found: dict[str, Any]


def blended(image: np.ndarray, colours: np.ndarray, share: float) -> np.ndarray:
    """An image ``[H, W, 3]`` uint8 under colours of the same shape, of which a share is seen."""
    return ((1 - share) * image + share * colours).round().astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """An image ``[H, W, 3]`` uint8 without its colours."""
    return np.broadcast_to(image.mean(axis=2, keepdims=True), image.shape).round().astype(np.uint8)


def paint_clusters(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Clusters ``[H, W]`` as colours over the grey image ``[H, W, 3]`` uint8."""
    colours: np.ndarray = 255 * colour_sequence(int(labels.max()) + 1)
    return blended(grey(image), colours[labels], _CLUSTERS)


def paint_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask ``[H, W]`` in red over the image ``[H, W, 3]`` uint8."""
    return np.where(mask[..., None], blended(image, np.array(FOUND), _MASK), image)


def magnified(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture ``[H, W, 3]`` with a longer side near 480 pixels, and the factor: whole, or that of a reduction."""
    longer = max(picture.shape[:2])
    if longer <= SIDE:
        factor = max(1, SIDE // longer)
        return picture.repeat(factor, axis=0).repeat(factor, axis=1), factor
    size = [max(1, round(side * SIDE / longer)) for side in picture.shape[:2]]
    return imresize(picture, (size[1], size[0]), interpolation='area'), SIDE / longer


def frame(
    picture: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], factor: float, width: int = 4
) -> np.ndarray:
    """Draw the frame of a box, in place.

    Args:
        picture: RGB, ``[H, W, 3]`` uint8.
        box: ``(x0, y0, x1, y1)`` in pixels of the image that the picture is magnified from.
        colour: RGB of the frame.
        factor: Magnification of the picture.
        width: Width of the frame in pixels of the picture, inside of the box.

    Returns:
        The picture.
    """
    left, top, right, bottom = np.round(np.asarray(box, np.float64) * factor).astype(int)
    left, top = max(left, 0), max(top, 0)
    for rows, columns in (
        ((top, top + width), (left, right)),
        ((bottom - width, bottom), (left, right)),
        ((top, bottom), (left, left + width)),
        ((top, bottom), (right - width, right)),
    ):
        picture[max(rows[0], 0) : rows[1], max(columns[0], 0) : columns[1]] = colour
    return picture


def _of_object(example: Example, found: FoundObject) -> list[np.ndarray]:
    """What the patches were chosen by, and the mask with its box."""
    size = example.image.shape[:2]
    values, _ = magnified(heat(spread(found.patches.values, found.cell, size)))
    shown, factor = magnified(paint_mask(example.image, spread(found.patches.mask, found.cell, size)))
    for box in example.boxes:
        frame(shown, box, GIVEN, factor, width=2)
    return [values, frame(shown, found.box, FOUND, factor)]


def draw_objects(examples: Sequence[Example], path: str | os.PathLike, title: str) -> None:
    """Draw a row per image: the image with its boxes; of each encoder what it chose by, and mask and box.

    Args:
        examples: What to draw, each with a :class:`FoundObject` of every encoder.
        path: The picture to write.
        title: Title above all rows.
    """
    rows, encoders = [], list(examples[0].found)
    for example in examples:
        image, factor = magnified(example.image)
        for box in example.boxes:
            frame(image, box, GIVEN, factor)
        rows.append([image, *(each for name in encoders for each in _of_object(example, example.found[name]))])
    columns = ['image', *(f'{name}\n{what}' for name in encoders for what in ('chosen by', 'found'))]
    draw_image_table(
        rows,
        path,
        columns,
        [example.name for example in examples],
        title,
        'Green: boxes of the data set. Red: patches and box that are found. Patches are chosen by the values beside '
        'them, dark to bright, each image on a scale of its own.',
    )


def draw_found_clusters(
    examples: Sequence[Example], palette: Sequence[Sequence[int]], path: str | os.PathLike, title: str
) -> None:
    """Draw a row per image: the image, its labels, and the clusters of each encoder.

    Args:
        examples: What to draw, each with
            :class:`mmmim.evaluation.label_free.methods.FoundClusters` of every encoder.
        palette: RGB of every class.
        path: The picture to write.
        title: Title above all rows.
    """
    rows, columns = [], ['image', 'label']
    for example in examples:
        classes = next(iter(example.found.values())).classes
        row = [example.image, paint_labels(classes, palette)]
        for found in example.found.values():
            row += [paint_clusters(example.image, labels) for labels in found.labels.values()]
        rows.append([magnified(each)[0] for each in row])
    for name, found in examples[0].found.items():
        columns += [
            f'{name}\n{cut} clusters' if cut != 'classes' else f'{name}\nas many as classes' for cut in found.labels
        ]
    draw_image_table(
        rows,
        path,
        columns,
        [example.name for example in examples],
        title,
        'Clusters of the patches of each image, the largest first: blue, orange, green, ... Colours do not compare '
        'between images. Chequers: ignored pixels.',
    )
