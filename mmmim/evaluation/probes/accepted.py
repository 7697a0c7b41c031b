"""Accuracy on test sets whose images may have several labels, or whose classes are a part of the model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmmim.registry import METRICS
from mmmim.utils import InputError

from .selection import count_accepted, restrict


@METRICS.register_module()
class AcceptedAccuracy(BaseMetric):
    """Top-1 accuracy in per cent; of several labels of an image, any is right (CAPI, arXiv 2502.08769).

    Predictions are of the classes in ``evaluated_classes`` of the metainfo of the data set where it has that, as those
    of ImageNet-A and -R have; images without a label are left out. Of data sets with one label per image and all
    classes it is ``mmpretrain.Accuracy``.

    Args:
        collect_device: Where results of several processes are collected, 'cpu' or 'gpu'.
        prefix: Prefix of the name of the score.
    """

    default_prefix = 'accuracy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count right predictions of a batch.

        Raises:
            InputError: Predictions are to be of some classes only, and the model gives no scores of classes.
        """
        classes = (self.dataset_meta or {}).get('evaluated_classes')
        for sample in data_samples:
            if 'pred_score' in sample:
                scores = sample['pred_score']
                best = int((scores if classes is None else restrict(scores, classes)).argmax())
                predicted = torch.tensor([best if classes is None else classes[best]])
            elif classes is None:
                predicted = sample['pred_label'].reshape(1).cpu()
            else:
                raise InputError(
                    'mmmim.AcceptedAccuracy: predictions of this data set are restricted to some classes, which needs '
                    'scores of all classes, and the model gives the predicted class only.'
                )
            right, counted = count_accepted(predicted, sample['gt_label'].reshape(1, -1).cpu())
            self.results.append((int(right), int(counted)))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Accuracy over all images, ``top1``."""
        right, counted = map(sum, zip(*results, strict=True))
        return {'top1': 100 * right / counted if counted else float('nan')}
