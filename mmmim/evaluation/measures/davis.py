"""Region and contour accuracy of segmented objects in videos, as the DAVIS benchmark computes them.

Perazzi et al. 2016 (A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation), for several objects
Pont-Tuset et al. 2017 (The 2017 DAVIS Challenge on Video Object Segmentation, arXiv 1704.00675), semi-supervised task.

Legend: T frames of H x W pixels, n objects, L = T - 2 frames that are scored (the first is given, the last left out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from mmmim.datasets.davis import FEWEST_FRAMES
from mmmim.utils import InputError

#: Value of pixels that an annotation leaves open; they count as background.
VOID = 255
#: Tolerance of contours, as a share of the image's diagonal.
TOLERANCE = 0.008
#: Of one object, frames above it count for the recall.
_RECALLED = 0.5


class Statistics(NamedTuple):
    """What becomes of the values of an object in all of its frames.

    Attributes:
        mean: Mean over the frames.
        recall: Share of the frames with more than a half.
        decay: Mean of the first quarter of the frames less that of the last: what is lost over time.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class ObjectScores:
    """Scores of the objects of a sequence in every frame that counts.

    Attributes:
        region: J, ``[n, L]``.
        contour: F, ``[n, L]``.
    """

    region: np.ndarray
    contour: np.ndarray

    @classmethod
    def of_frames(cls, frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> ObjectScores:
        """From what :func:`score_frame` gives for L frames."""
        region, contour = (np.stack(each, axis=1) for each in zip(*frames, strict=True))
        return cls(region, contour)

    def statistics(self) -> list[tuple[Statistics, Statistics]]:
        """Of every object, J's and F's."""
        return [(statistics(j), statistics(f)) for j, f in zip(self.region, self.contour, strict=True)]


def region_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """J: intersection over union of two masks ``[H, W]``; 1 where both are empty."""
    union = np.logical_or(one, other).sum()
    return float(np.logical_and(one, other).sum() / union) if union else 1.0


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask ``[H, W]`` that differ from the one to the right, below, or right below.

    The last row and column are repeated, so the border of the image is no contour, and a mask that fills it has none.
    """
    padded = np.pad(mask.astype(bool), ((0, 1), (0, 1)), mode='edge')
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def boundary_radius(height: int, width: int, tolerance: float = TOLERANCE) -> int:
    """Pixels that contours may lie apart: a share of the diagonal, rounded up; from 1 on the number itself."""
    return math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(height, width))


def contour_accuracy(predicted: np.ndarray, annotated: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """F: harmonic mean of the shares of each contour that lie near the other one.

    Args:
        predicted: Mask ``[H, W]``.
        annotated: Mask ``[H, W]``.
        tolerance: How near, see :func:`boundary_radius`.

    Returns:
        F in [0, 1]: 1 where neither mask has a contour, 0 where one alone has.
    """
    ours, theirs = boundary_map(predicted), boundary_map(annotated)
    numbers = int(ours.sum()), int(theirs.sum())
    if not all(numbers):
        return float(not any(numbers))
    height, width = predicted.shape
    disk = _disk(boundary_radius(height, width, tolerance))
    near_ours, near_theirs = (cv2.dilate(each.astype(np.uint8), disk).astype(bool) for each in (ours, theirs))
    precision, recall = (ours & near_theirs).sum() / numbers[0], (theirs & near_ours).sum() / numbers[1]
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _disk(radius: int) -> np.ndarray:
    axis: np.ndarray = np.arange(-radius, radius + 1) ** 2
    return (axis[:, None] + axis <= radius**2).astype(np.uint8)


def statistics(values: Sequence[float] | np.ndarray) -> Statistics:
    """Mean, recall and decay of the values of an object, ``[L]``; NaN is left out of means and is no recall.

    The quarters of the decay share the frames at which they meet.
    """
    series: np.ndarray = np.asarray(values, np.float64)
    length = len(series)
    # DAVIS rounds halves up, by adding a trifle, and keeps the bounds in 8 bits; these are whole numbers of any size.
    bounds = [round(1 + (length - 1) * i / 4 + 1e-10) - 1 for i in range(5)]
    first, last = series[bounds[0] : bounds[1] + 1], series[bounds[3] : bounds[4] + 1]
    return Statistics(
        float(np.nanmean(series)), float((series > _RECALLED).mean()), float(np.nanmean(first) - np.nanmean(last))
    )


def number_of_objects(annotation: np.ndarray) -> int:
    """The highest index in the first annotation ``[H, W]`` of a sequence, void left out; 0 where there is no object."""
    return int(np.where(annotation == VOID, 0, annotation).max(initial=0))


def score_frame(annotated: np.ndarray, predicted: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every object in a frame.

    An object that is not predicted has an empty mask. What the annotation has beyond the objects is background, and so
    is what it leaves open.

    Args:
        annotated: Index map ``[H, W]``.
        predicted: Index map ``[H, W]``.
        objects: Number of objects n, see :func:`number_of_objects`.

    Returns:
        J ``[n]`` and F ``[n]``.

    Raises:
        InputError: The sizes differ, or an index is predicted that is no object.
    """
    if annotated.shape != predicted.shape:
        raise InputError(f'A frame is {_size(predicted)} in the prediction and {_size(annotated)} in the annotation.')
    if (highest := int(predicted.max(initial=0))) > objects:
        raise InputError(f'A frame is predicted to hold object {highest}: there are {objects}.')
    pairs = [(predicted == index, annotated == index) for index in range(1, objects + 1)]
    region, contour = ([measure(*pair) for pair in pairs] for measure in (region_similarity, contour_accuracy))
    return np.array(region), np.array(contour)


def score_sequence(annotated: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> ObjectScores:
    """J and F of every object of a sequence in every frame but the first and the last.

    Args:
        annotated: Index maps of T frames ``[H, W]``. Objects are those of the first one.
        predicted: Index maps of T frames ``[H, W]``.

    Raises:
        InputError: There are fewer than three frames, no objects, or as :func:`score_frame`.
    """
    if len(annotated) != len(predicted) or len(annotated) < FEWEST_FRAMES:
        raise InputError(
            f'{len(predicted)} frames are predicted of {len(annotated)}: it takes one for each, and at least '
            f'{FEWEST_FRAMES}, since the first and the last are not scored.'
        )
    objects = number_of_objects(annotated[0])
    if not objects:
        raise InputError('The first annotation has no object: nothing can be scored.')
    pairs = zip(annotated[1:-1], predicted[1:-1], strict=True)
    return ObjectScores.of_frames([score_frame(truth, found, objects) for truth, found in pairs])


def global_scores(objects: Sequence[tuple[Statistics, Statistics]]) -> dict[str, float]:
    """Scores of a data set: plain means over the objects of all sequences, whatever the sequence.

    Args:
        objects: J's and F's statistics of every object.

    Returns:
        ``J&F-Mean``, and of J and F ``-Mean``, ``-Recall`` and ``-Decay``, as shares.
    """
    means: np.ndarray = np.asarray(objects, np.float64).mean(axis=0)
    found = {
        f'{letter}-{name.capitalize()}': float(value)
        for letter, row in zip('JF', means, strict=True)
        for name, value in zip(('mean', 'recall', 'decay'), row, strict=True)
    }
    return {'J&F-Mean': (found['J-Mean'] + found['F-Mean']) / 2, **found}


def _size(array: np.ndarray) -> str:
    return ' x '.join(map(str, array.shape))
