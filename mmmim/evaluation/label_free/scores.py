"""Scores of what was found in images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmmim.registry import METRICS
from mmmim.utils import InputError

from .boxes import is_found


def matched_iou(clusters: np.ndarray, classes: np.ndarray, ignored: int | None = None) -> float | None:
    """The mIoU of the clusters of an image, each matched with at most one class so that the sum of IoUs is largest.

    Args:
        clusters: Numbers of clusters, ``[H, W]``.
        classes: Labels of the pixels, ``[H, W]``.
        ignored: Label of pixels that do not count; None for none.

    Returns:
        Mean over the classes in the image, from 0 to 1; a class that no cluster is matched with has 0. None where no
        pixel counts.
    """
    from scipy.optimize import linear_sum_assignment

    counted = np.ones(classes.shape, bool) if ignored is None else classes != ignored
    if not counted.any():
        return None
    rows, columns = (np.unique(each[counted], return_inverse=True)[1] for each in (clusters, classes))
    shape = rows.max() + 1, columns.max() + 1
    shared = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared
    iou = shared / union
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / shape[1])


def number_of_classes(classes: np.ndarray, ignored: int | None = None) -> int:
    """How many classes the pixels of an image have, at least 1."""
    return max(1, len(np.setdiff1d(classes, [] if ignored is None else [ignored])))


@METRICS.register_module()
class CorLoc(BaseMetric):
    """Correct localisation: share of the images whose found box has an IoU of 0.5 or more with any box of the image.

    The measure of LOST (arXiv 2109.14279) and TokenCut (arXiv 2202.11539), one box per image. ``CorLoc`` in percent,
    and ``images``, the number of images.

    Args:
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'discovery'

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the boxes of a batch."""
        for sample in data_samples:
            boxes = sample.get('gt_bboxes')
            if boxes is None or not len(boxes):
                raise InputError(
                    'mmmim.CorLoc needs the boxes of every image: the data set gives gt_bboxes, and the pipeline packs '
                    "them, dict(type='mmpretrain.PackInputs', meta_keys=['img_path', 'ori_shape', 'gt_bboxes'])."
                )
            self.results.append(is_found(sample['found'].box, boxes))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score of all images."""
        return {'CorLoc': 100 * float(np.mean(results)), 'images': len(results)}


@METRICS.register_module()
class MatchedIoU(BaseMetric):
    """The mIoU of the clusters of an image with its classes under the best one-to-one matching, a mean over the images.

    ``mIoU_<clusters>`` in percent for each number of clusters, and ``images``, how many had pixels that count. No paper
    reports it for one image at a time.

    Args:
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'clusters'

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match the clusters of a batch."""
        for sample in data_samples:
            found = sample['found']
            self.results.append(
                {name: matched_iou(labels, found.classes, found.ignored) for name, labels in found.labels.items()}
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all images."""
        counted = [each for each in results if None not in each.values()]
        names = counted[0] if counted else {}
        scores = {f'mIoU_{name}': 100 * float(np.mean([each[name] for each in counted])) for name in names}
        return {**scores, 'images': len(counted)}
