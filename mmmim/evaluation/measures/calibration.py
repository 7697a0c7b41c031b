"""How sure a classifier is, beside how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmmim.registry import METRICS
from mmmim.utils import InputError
from mmmim.utils.options import Count


@METRICS.register_module()
class Calibration(BaseMetric):
    """Accuracy, expected calibration error and negative log-likelihood of the predicted probabilities.

    ``top1`` in percent. ``ece`` in percent: images are put into bins by the probability of the predicted class; the
    difference of accuracy and mean probability of a bin, without its sign, is averaged over the images (Guo et al.
    2017, arXiv 1706.04599, equation 3). ``nll`` in nats.

    Of several labels of an image any is right, and their probabilities add up; images without a label are left out; of
    a data set of some of the classes (``evaluated_classes`` of its metainfo) probabilities are of those.

    Args:
        bins: Number of bins of equal width.
        head: Source or place of the head that is scored where a model has several; None: a model has one.
        collect_device: Where results of several processes are collected, 'cpu' or 'gpu'.
        prefix: Prefix of the names of the scores.
    """

    default_prefix = 'calibration'

    def __init__(
        self,
        bins: Count = 15,
        head: str | int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.bins, self.head = bins, head

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep three numbers of every image that has a label.

        Raises:
            InputError: The model gives no scores, or has several heads of which none is chosen.
        """
        classes = (self.dataset_meta or {}).get('evaluated_classes')
        for sample in data_samples:
            scores = self._log_probabilities(sample)
            labels = sample['gt_label'].reshape(-1).cpu()
            labels = labels[labels >= 0]
            if not len(labels):
                continue
            if classes is not None:
                kept = torch.full_like(scores, -torch.inf)
                kept[classes] = scores[classes].log_softmax(dim=0)
                scores = kept
            confidence, predicted = scores.max(dim=0)
            likelihood = scores[labels].logsumexp(dim=0)
            # A probability that has become 0 in its type still has a finite logarithm.
            nll = min(-float(likelihood), -float(np.log(np.finfo(np.float64).tiny)))
            self.results.append((float(confidence.exp()), bool((labels == predicted).any()), nll))

    def _log_probabilities(self, sample: dict) -> Tensor:
        """Of all classes, ``[C]`` float64."""
        if 'head_scores' in sample:
            scores, heads = sample['head_scores'].cpu().double(), [source for source, _ in sample['heads']]
            return scores[self._place(heads)].log_softmax(dim=0)
        if 'pred_score' not in sample:
            raise InputError('mmmim.Calibration needs scores of all classes, and the model gives the prediction only.')
        return sample['pred_score'].cpu().double().log()

    def _place(self, heads: list[str]) -> int:
        if self.head is None and len(heads) == 1:
            return 0
        if isinstance(self.head, int) and 0 <= self.head < len(heads):
            return self.head
        if heads.count(str(self.head)) == 1:
            return heads.index(str(self.head))
        names = ', '.join(dict.fromkeys(heads))
        raise InputError(
            f'test_evaluator.head={self.head!r}: the model has {len(heads)} heads on {names}: name one of these, if it '
            f'has one head, or give a number from 0 to {len(heads) - 1}.'
        )

    def compute_metrics(self, results: list[tuple[float, bool, float]]) -> dict[str, float]:
        """Scores of all images."""
        if not results:
            return dict.fromkeys(('top1', 'ece', 'nll'), float('nan'))
        confidence, right, nll = (np.array(each, np.float64) for each in zip(*results, strict=True))
        error = expected_calibration_error(confidence, right, self.bins)
        return {'top1': float(100 * right.mean()), 'ece': 100 * error, 'nll': float(nll.mean())}


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Mean difference of accuracy and confidence over bins of equal width (Guo et al. 2017, equation 3).

    Args:
        confidence: Probability of the predicted class, ``[n]``.
        right: Whether it is right, ``[n]``.
        bins: Number of bins; a value between two belongs to the lower one.
    """
    place = (np.ceil(confidence * bins) - 1).clip(0, bins - 1).astype(int)
    gaps = np.bincount(place, right.astype(np.float64), bins) - np.bincount(place, confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))
