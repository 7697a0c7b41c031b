"""Scores of frozen features on labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmmim.features.extraction import Features
from mmmim.features.labelled_images import LabelledImages, dense_features, global_features

from .fitted import KNNProbe, LogisticRegressionProbe
from .knn import accuracy, knn_classify
from .procedure import in_memory, scored_alone


def linear_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, c: float = 0.1, max_iter: int = 50
) -> float:
    """Top-1 accuracy of logistic regression on standardised features ``[n, D]``; NaN where one is not finite."""
    if not (train.isfinite().all() and test.isfinite().all()):
        return math.nan
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    probe = LogisticRegressionProbe((c,), max_iter, tolerance=1e-5)
    samples = in_memory(train, train_labels, classes), in_memory(test, test_labels, classes)
    return scored_alone(probe, *samples)['aAcc'] / 100


def quick_scores(
    extract: Callable[[Tensor], Features],
    train: LabelledImages,
    test: LabelledImages,
    linear: tuple[str, ...] = ('pooled',),
    k: int = 10,
    dense_images: int = 200,
) -> dict[str, float]:
    """Scores that take seconds, for looking at a run while it trains.

    Args:
        extract: Gives the features of uint8 RGB images ``[B, 3, H, W]``.
        train: Where the probes learn.
        test: Where they are scored.
        linear: Features that linear probes are fitted on, see :func:`global_features`.
        k: Number of nearest neighbours that vote.
        dense_images: Images of each that dense k-NN uses.

    Returns:
        ``quick_knn_<feature>`` and ``quick_linear_<feature>``, top-1 accuracy in [0, 1], where images have classes;
        ``quick_knn_miou``, in [0, 1], where they have label maps. No protocol of a paper: the names say so.
    """
    scores: dict[str, float] = {}
    if train.labels is not None and test.labels is not None:
        names = tuple(dict.fromkeys(('predicted', 'cls', 'pooled', *linear)))
        fitted, scored = (global_features(part.encode(extract), names) for part in (train, test))
        classes = int(torch.cat([train.labels, test.labels]).max()) + 1
        for name in fitted:
            if name != 'all':
                voted = knn_classify(fitted[name], train.labels, scored[name], classes, min(k, len(train.labels)))
                scores[f'quick_knn_{name}'] = accuracy(voted, test.labels)
        for name in linear:
            if name in fitted:
                scores[f'quick_linear_{name}'] = linear_accuracy(fitted[name], train.labels, scored[name], test.labels)
    if train.label_maps is not None and test.label_maps is not None:
        scores['quick_knn_miou'] = knn_miou(extract, train, test, k, dense_images)
    return scores


def knn_miou(
    extract: Callable[[Tensor], Features],
    train: LabelledImages,
    test: LabelledImages,
    k: int = 10,
    number: int | None = None,
) -> float:
    """Mean IoU of dense k-NN on standardised patch features (CAPI's protocol), on ``number`` images of each."""
    fitted, labels = dense_features(extract, train, number)
    scored, true = dense_features(extract, test, number)
    classes = int(torch.cat([labels.flatten(), true.flatten()]).max()) + 1
    ignored = test.ignored_labels
    samples = in_memory(fitted, labels, classes, ignored), in_memory(scored, true, classes, ignored)
    probe = KNNProbe((min(k, len(samples[0].labelled_rows(np.arange(len(fitted))))),), ('cosine',))
    return scored_alone(probe, *samples)['mIoU'] / 100
