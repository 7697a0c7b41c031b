"""CAPI's score of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmmim.registry import METRICS
from mmmim.utils import InputError

from .dense import confusion_matrix, mean_iou, pixel_accuracy


@METRICS.register_module()
class MacroJaccard(BaseMetric):
    """mIoU as scikit-learn's ``jaccard_score(average='macro')`` on the pixels whose label counts, and pixel accuracy.

    CAPI's score (arXiv 2502.08769, A): classes that are neither true nor predicted anywhere do not count, and ignored
    labels that are predicted are one more class, of IoU 0. ``mmseg.IoUMetric`` leaves such predictions out. Labels to
    ignore are those of the data set (:class:`mmmim.FitTestLoop` passes them on). ``mIoU`` and ``aAcc``, in percent.

    Args:
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'capi'

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch."""
        classes = len(self.dataset_meta['classes'])
        ignored = self.dataset_meta.get('ignore_index')
        if ignored is None:
            raise InputError('mmmim.MacroJaccard needs the ignore_index of the data set: use it in mmmim.FitTestLoop.')
        for sample in data_samples:
            # Per image, since the evaluator drops images that were added to give all processes as many.
            predicted, true = (sample[key]['data'].cpu() for key in ('pred_sem_seg', 'gt_sem_seg'))
            predicted = torch.where(predicted == ignored, classes, predicted)  # a class of its own
            self.results.append(confusion_matrix(predicted, true, classes + 1, (ignored,)).to_sparse())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all images."""
        return percent(sum(results[1:], results[0]).to_dense())


def percent(confusion: torch.Tensor) -> dict[str, float]:
    """``mIoU`` and ``aAcc`` of a table of labels, see :func:`mmmim.evaluation.measures.dense.confusion_matrix`."""
    return {'mIoU': 100 * mean_iou(confusion), 'aAcc': 100 * pixel_accuracy(confusion)}
