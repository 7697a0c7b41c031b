"""Accuracy of every head of a classifier, and of the best of each source of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmmim.registry import METRICS
from mmmim.utils import InputError

from .selection import best_of_each, count_accepted, restrict


@METRICS.register_module()
class HeadAccuracy(BaseMetric):
    """Top-1 accuracy in per cent of the heads of a :class:`mmmim.ProbeClassifier`, over all images, once each.

    Of several labels of an image any is right; images without a label are left out; of a data set of some of the
    classes (``evaluated_classes`` of its metainfo) predictions are of those, see :class:`mmmim.AcceptedAccuracy`.

    Scores are ``top1``, of the best head of all, and with several sources of features one of each, of the best head of
    it. Which head that is is chosen on these very images, and therefore no more than that; :class:`ChoosingTestLoop`
    chooses on others.

    Args:
        collect_device: Where results of several processes are collected, 'cpu' or 'gpu'.
        prefix: Prefix of the names of the scores.

    Attributes:
        choice: Head of each source that counts, by its number, that of ``top1`` first; None for the best.
        table: Source, settings and accuracy of every head, of the last images, on the first process.
    """

    default_prefix = 'accuracy'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        self.choice: dict[str, int] | None = None
        self.table: list[dict[str, Any]] = []
        self._heads: list[tuple[str, Mapping[str, Any]]] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count right predictions of every head for a batch.

        Raises:
            InputError: The model has no heads of this kind.
        """
        if data_samples and 'head_scores' not in data_samples[0]:
            raise InputError(
                'mmmim.HeadAccuracy counts predictions of the heads of an mmmim.ProbeClassifier: for other models use '
                'mmmim.AcceptedAccuracy or mmpretrain.Accuracy.'
            )
        classes = (self.dataset_meta or {}).get('evaluated_classes')
        for sample in data_samples:
            scores = sample['head_scores']
            self._heads = sample['heads']
            best = (scores if classes is None else restrict(scores, classes)).argmax(dim=-1).cpu()
            best = best if classes is None else torch.as_tensor(classes)[best]
            right, counted = count_accepted(best[:, None], sample['gt_label'].reshape(1, -1).cpu())
            self.results.append((right.to(torch.uint8), int(counted)))

    def compute_metrics(self, results: list[tuple[torch.Tensor, int]]) -> dict[str, float]:
        """Accuracies of the best heads, ``top1`` and by source."""
        right = torch.stack([each for each, _ in results]).sum(dim=0, dtype=torch.int64)
        counted = sum(count for _, count in results)
        accuracy = (100 * right.double() / counted if counted else right * float('nan')).tolist()
        self.table = [
            {'source': source, **setting, 'top1': score}
            for (source, setting), score in zip(self._heads, accuracy, strict=True)
        ]
        best = self.choice or best_heads(self.table)
        scores = {source: accuracy[best[source]] for source in dict.fromkeys(source for source, _ in self._heads)}
        if len(self.table) > len(best):
            how = 'chosen before' if self.choice else 'the best'
            of = {source: setting_text(self._heads[head][1]) for source, head in best.items()}
            words = '; '.join(f'{source} {score:.2f} ({of[source]})' for source, score in scores.items())
            print_log(f'Of {len(self.table)} heads, {how}: {words}', 'current')
        return {'top1': scores[next(iter(best))], **(scores if len(scores) > 1 else {})}


def best_heads(table: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The first head with the highest accuracy of each source, by its number; the source of the best one first.

    Args:
        table: ``source`` and ``top1`` of every head.
    """
    best = best_of_each([row['source'] for row in table], [row['top1'] for row in table])
    return dict(sorted(best.items(), key=lambda item: -table[item[1]]['top1']))


def setting_text(setting: Mapping[str, Any]) -> str:
    """Settings of a head in words."""
    return ', '.join(f'{name} {value:g}' for name, value in setting.items())
