"""Scores of predicted depths and surface normals, summed image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mmengine.evaluator import BaseMetric

from mmmim.features.truths import map_of
from mmmim.registry import METRICS
from mmmim.utils import InputError
from mmmim.utils.options import Positive

#: Rows and columns of the crop of NYUv2 that depths are scored in (Eigen et al. 2014), and the size that it is of.
EIGEN_CROP, EIGEN_SIZE = (slice(45, 471), slice(41, 601)), (480, 640)
#: Bins of the angles of normals, 0.01 degrees each: their median is known to half of that.
ANGLE_BINS = 18_000
#: Angles that fractions are counted below, in degrees.
ANGLES = (11.25, 22.5, 30.0)

Crop = Literal['eigen'] | None


def inside(values: np.ndarray, crop: Crop, path: Any = None) -> np.ndarray:
    """Where the values ``[H, W, C]`` of an image are known and count, ``[H, W]``.

    Raises:
        InputError: The crop is not of images of this size.
    """
    known = np.isfinite(values).all(axis=2)
    if crop is None:
        return known
    if known.shape != EIGEN_SIZE:
        raise InputError(
            f"crop='eigen' is of maps of {EIGEN_SIZE[0]} x {EIGEN_SIZE[1]} pixels, and {path or 'a map'} has "
            f'{known.shape[0]} x {known.shape[1]}: use crop=None for other data than NYUv2.'
        )
    counts = np.zeros_like(known)
    counts[EIGEN_CROP] = known[EIGEN_CROP]
    return counts


class MapMetric(BaseMetric):
    """Scores of predicted maps, ``pred_map`` beside ``gt_map`` of a data sample, of the pixels that are known.

    Args:
        crop: 'eigen': pixels inside the crop of NYUv2 alone count; None: all.
        prefix: What the names of the scores begin with.
    """

    def __init__(self, crop: Crop = None, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.crop = crop

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Add up a batch; nothing of the size of an image is kept."""
        for sample in data_samples:
            true, predicted = map_of(sample), np.asarray(sample['pred_map'])
            counts = inside(true, self.crop, sample.get('img_path'))
            self.results.append(self.sums(predicted[counts], true[counts]))

    def sums(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """What is kept of the pixels ``[m, C]`` of an image that count."""
        raise NotImplementedError


@METRICS.register_module()
class DepthScores(MapMetric):
    """Errors of depths in metres, means over images of means over pixels, as benchmarks of NYUv2 have them.

    ``rmse``, root mean square error in metres; ``abs_rel``, mean of ``|predicted - true| / true``; ``delta1`` to
    ``delta3``, percentage of the pixels where the greater of both is less than 1.25, 1.25^2 and 1.25^3 times the other
    (Eigen et al. 2014, arXiv 1406.2283, section 4.2).

    Args:
        low: Least depth in metres; what is predicted below becomes that.
        high: Greatest depth that counts, in metres; what is predicted beyond becomes that.
        crop: 'eigen': the crop of NYUv2; None: all pixels.
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'depth'

    def __init__(
        self, low: Positive = 1e-3, high: Positive = 10.0, crop: Crop = None, prefix: str | None = None
    ) -> None:
        super().__init__(crop, prefix)
        self.low, self.high = low, high

    def sums(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Five means of an image."""
        counts = ((true > self.low) & (true < self.high)).squeeze(1)
        if not counts.any():
            return np.full(5, np.nan)
        y = true[counts].astype(np.float64)
        x = predicted[counts].astype(np.float64).clip(self.low, self.high)
        ratio = np.maximum(x / y, y / x)
        rmse = np.sqrt(np.square(x - y).mean())
        return np.array([rmse, (abs(x - y) / y).mean(), *((ratio < 1.25**i).mean() for i in (1, 2, 3))])

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Means over the images that have a depth that counts."""
        means = np.nanmean(np.stack(results), axis=0) * [1, 1, 100, 100, 100]
        names = ('rmse', 'abs_rel', 'delta1', 'delta2', 'delta3')
        return {name: float(mean) for name, mean in zip(names, means, strict=True)}


@METRICS.register_module()
class NormalScores(MapMetric):
    """Angles between predicted and true surface normals in degrees, over the pixels of all images together.

    ``mean`` and ``median`` (to 0.005 degrees), and the percentages of the pixels below 11.25, 22.5 and 30 degrees, as
    Fouhey et al. (2013) introduced them for NYUv2.

    Args:
        crop: 'eigen': the crop of NYUv2; None: all pixels.
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'normals'

    def sums(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Number of pixels, their angles added up, numbers below three angles, and a histogram."""
        found = angles(predicted, true)
        histogram, _ = np.histogram(found, ANGLE_BINS, (0, 180))
        return np.array([len(found), found.sum(), *((found < angle).sum() for angle in ANGLES), *histogram], np.float32)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Scores of all pixels."""
        number, total, *below = np.sum(results, axis=0, dtype=np.float64)
        shares, histogram = below[: len(ANGLES)], np.cumsum(below[len(ANGLES) :])
        median = (np.searchsorted(histogram, number / 2) + 0.5) * 180 / ANGLE_BINS
        scores = {'mean': total / number, 'median': median}
        scores |= {f'below_{angle:g}': 100 * share / number for angle, share in zip(ANGLES, shares, strict=True)}
        return {name: float(score) for name, score in scores.items()}


def angles(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Angles between vectors of any length ``[m, 3]``, in degrees ``[m]``; 90 where one has none."""
    x: np.ndarray = predicted.astype(np.float64)
    y: np.ndarray = true.astype(np.float64)
    sine, cosine = np.linalg.norm(np.cross(x, y), axis=1), (x * y).sum(axis=1)
    found: np.ndarray = np.degrees(np.arctan2(sine, cosine))
    found[(sine == 0) & (cosine == 0)] = 90.0
    return found
