"""Contact sheets of videos: frames side by side, their objects in colours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmcv.image import imresize

from .image_table import draw_image_table

#: Sides of larger pictures are divided by whole numbers until they fit.
_LARGEST = 320
#: Share of the colour of an object in a pixel.
_ALPHA = 0.5


class SegmentedFrame(NamedTuple):
    """A frame with its objects.

    Attributes:
        image: RGB, ``[h, w, 3]`` uint8; of any size, as it is drawn at that of the indices.
        annotated: Indices of objects ``[H, W]``.
        predicted: Predicted indices ``[H, W]``.
        name: Heading of its column.
    """

    image: np.ndarray
    annotated: np.ndarray
    predicted: np.ndarray
    name: str


def shown_frames(frames: int) -> dict[int, str]:
    """Which frames a sheet shows: the first, and those at 25 %, 50 % and 100 % of the time (Latent MIM, figure 7).

    Args:
        frames: Number of frames T.

    Returns:
        Their headings by their places.
    """
    found = {0: 'frame 0, given'}
    for share in (0.25, 0.5, 1.0):
        place = round(share * (frames - 1))
        found.setdefault(place, f'frame {place}, {share:.0%}')
    return found


def overlay(image: np.ndarray, indices: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """An image whose objects are tinted.

    Args:
        image: RGB, ``[H, W, 3]`` uint8.
        indices: Indices of objects ``[H, W]`` uint8, 0 for what is not tinted.
        palette: RGB of every index.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    colours = np.asarray(palette, np.float64)[indices]
    mixed = (1 - _ALPHA) * image + _ALPHA * colours
    return np.where((indices > 0)[..., None], mixed, image).round().astype(np.uint8)


def draw_contact_sheet(
    frames: Sequence[SegmentedFrame], palette: Sequence[Sequence[int]], path: str | os.PathLike, title: str
) -> None:
    """Draw frames of a video, a column each: the annotation above the prediction.

    Args:
        frames: What to draw.
        palette: RGB of every index.
        path: The picture to write.
        title: Title above all frames.
    """
    rows: list[list[np.ndarray]] = [[], []]
    for frame in frames:
        height, width = frame.annotated.shape
        step = -(-max(height, width) // _LARGEST)
        image = imresize(frame.image, (-(-width // step), -(-height // step)), interpolation='area')
        for row, indices in zip(rows, (frame.annotated, frame.predicted), strict=True):
            row.append(overlay(image, indices[::step, ::step], palette))
    draw_image_table(
        rows,
        path,
        [frame.name for frame in frames],
        ['annotation', 'prediction'],
        title,
        'Each object has a colour of its own; the first frame is given.',
        aspect=rows[0][0].shape[0] / rows[0][0].shape[1],
    )
