"""Accuracy on test sets whose images may have several labels, or whose classes are a part of the model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmmim.registry import METRICS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Members

from .selection import count_accepted, restrict


@METRICS.register_module()
class AcceptedAccuracy(BaseMetric):
    """Accuracy in per cent; of several labels of an image, any is right (CAPI, arXiv 2502.08769).

    Predictions are of the classes in ``evaluated_classes`` of the metainfo of the data set where it has that, as those
    of ImageNet-A and -R have; images without a label are left out. Of data sets with one label per image and all
    classes it is ``mmpretrain.Accuracy``.

    Args:
        topk: How many of the most likely classes may be named, as ``(1, 5)``; all of them where fewer are given.
        collect_device: Where results of several processes are collected, 'cpu' or 'gpu'.
        prefix: Prefix of the names of the scores.
    """

    default_prefix = 'accuracy'

    def __init__(
        self,
        topk: Annotated[Sequence[Count], Members(1)] = (1,),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.topk = tuple(topk)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count right predictions of a batch.

        Raises:
            InputError: Predictions are to be of some classes only, or more than one is to be named, and the model gives
                the predicted class alone.
        """
        for sample in data_samples:
            ranking = self._ranking(sample)
            right, counted = count_accepted(ranking[:, None], sample['gt_label'].reshape(1, -1).cpu())
            self.results.append((int(counted), [bool(right[:k].any()) for k in self.topk]))

    def _ranking(self, sample: dict) -> Tensor:
        """Classes of an image, the most likely first: those that the model ranks."""
        classes = (self.dataset_meta or {}).get('evaluated_classes')
        if 'pred_score' in sample:
            scores = sample['pred_score'].cpu()
            if classes is None:
                return scores.sort(descending=True, stable=True).indices
            return torch.as_tensor(classes)[restrict(scores, classes).sort(descending=True, stable=True).indices]
        if 'pred_ranking' in sample:
            ranking = sample['pred_ranking'].cpu()
            return ranking if classes is None else ranking[torch.isin(ranking, torch.as_tensor(classes))]
        if classes is None and max(self.topk) == 1:
            return sample['pred_label'].reshape(1).cpu()
        what = 'restricted to some classes' if classes is not None else f'of the {max(self.topk)} most likely classes'
        raise InputError(
            f'mmmim.AcceptedAccuracy: predictions are {what}, which needs scores of all classes, and the model gives '
            'the predicted class only.'
        )

    def compute_metrics(self, results: list[tuple[int, list[bool]]]) -> dict[str, float]:
        """Accuracy over all images, ``top1`` and the others of ``topk``."""
        counted = sum(each for each, _ in results)
        return {
            f'top{k}': 100 * sum(right[i] for _, right in results) / counted if counted else float('nan')
            for i, k in enumerate(self.topk)
        }
