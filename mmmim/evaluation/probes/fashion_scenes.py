"""The table of FashionScenes: what frozen features are worth on its four tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mmmim.datasets import FashionScenes
from mmmim.datasets.label_spaces import check_agreement
from mmmim.features.extraction import Features, LayerFeatures
from mmmim.features.labelled_images import LabelledImages, dense_features, global_features
from mmmim.models.layers import patch_grid, patchify

from ..measures.health import mean_pairwise_cosine
from ..measures.rankme import rankme as effective_rank
from .fitted import KNNProbe, LogisticRegressionProbe
from .knn import accuracy, knn_classify, leave_one_out_accuracy
from .procedure import in_memory, scored_alone

#: Features of whole images that are scored, as far as a model has them.
POOLINGS = ('all', 'pooled', 'cls', 'predicted')
#: Inverse penalties that are tried, from strong to weak; the validation split decides.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
#: Of their fits. Those of weak penalties do not converge in so many: to end early is a part of the protocol.
MAX_ITER = 100
#: Training images of the dense probes.
LINEAR_DENSE_IMAGES, KNN_DENSE_IMAGES = 1000, 200
NEIGHBOURS = 10

_PIPELINE = [
    {'type': 'mmmim.LoadImage'},
    {'type': 'mmmim.LoadLabelMap'},
    {'type': 'mmpretrain.PackInputs', 'algorithm_keys': ('gt_seg_map',)},
]


def read_split(subset: str, split: str, data_root: str = 'data/fashion_scenes') -> LabelledImages:
    """A split of FashionScenes in memory."""
    dataset = FashionScenes(data_root, subset, split, pipeline=_PIPELINE)
    return LabelledImages.read(dataset, name=f'FashionScenes {subset}, {split}')


def pixel_features(patch_size: int) -> Callable[[Tensor], Features]:
    """Raw pixels in the place of an encoder: patches are their own features, in [0, 1]."""

    def extract(images: Tensor) -> Features:
        patches = patchify(images.float() / 255, patch_size)
        return Features([LayerFeatures(patches, patches[:, :0], patch_grid(images.shape[-2:], patch_size))])

    return extract


def best_linear_accuracy(
    train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor, test: Tensor, test_labels: Tensor
) -> float:
    """Top-1 accuracy on ``test`` of logistic regression whose penalty was chosen on ``val``.

    Args:
        train: Features ``[n, D]``; classes ``[n]`` follow. Standardised by their mean and deviation.
        train_labels: Classes ``[n]`` of the training images.
        val: Features of the validation images, of the same layout as ``train``.
        val_labels: Classes of the validation images.
        test: Features of the test images, of the same layout as ``train``.
        test_labels: Classes of the test images.
    """
    classes = int(train_labels.max()) + 1
    fitted, chosen, scored = (
        in_memory(features, labels, classes)
        for features, labels in ((train, train_labels), (val, val_labels), (test, test_labels))
    )
    return scored_alone(_linear_probe(), fitted, scored, chosen)['aAcc'] / 100


def _linear_probe() -> LogisticRegressionProbe:
    return LogisticRegressionProbe(PENALTIES, MAX_ITER, tolerance=1e-5)


def dense_scores(
    extract: Callable[[Tensor], Features], train: LabelledImages, val: LabelledImages, test: LabelledImages
) -> dict[str, float]:
    """Mean IoU over background and ten kinds of garments of a linear probe and of k-NN on single patch tokens.

    The linear probe learns the majority label of a patch and gives it to all its pixels.
    """
    fitted, labels = dense_features(extract, train, LINEAR_DENSE_IMAGES)
    chosen, chosen_true = dense_features(extract, val)
    scored, true = dense_features(extract, test)
    classes = int(labels.max()) + 1

    ignored = test.ignored_labels
    fit, choice, asked = (
        in_memory(*each, classes, ignored) for each in ((fitted, labels), (chosen, chosen_true), (scored, true))
    )
    linear = _linear_probe()
    linear_miou = scored_alone(linear, fit, asked, choice, by='mIoU')['mIoU'] / 100
    # Neighbours are few, and features standardised by all that the regression has seen.
    patches = len(labels) // min(LINEAR_DENSE_IMAGES, len(train.images)) * KNN_DENSE_IMAGES
    knn = KNNProbe((NEIGHBOURS,), ('cosine',))
    few = in_memory(fitted[:patches], labels[:patches], classes, ignored)
    return {
        'linear_miou': linear_miou,
        'knn_miou': scored_alone(knn, few, asked, scale=linear.scale)['mIoU'] / 100,
    }


def score(
    extract: Callable[[Tensor], Features],
    subset: str,
    split: str = 'val',
    data_root: str = 'data/fashion_scenes',
    poolings: Sequence[str] = POOLINGS,
    leave_one_out: bool = False,
    rankme: bool = False,
) -> dict[str, Any]:
    """All scores of frozen features on a subset.

    Probes learn on the training split; the validation split chooses the penalty of linear probes.

    Args:
        extract: Gives the features of uint8 RGB images ``[B, 3, H, W]``.
        subset: ``single`` (class of the garment, segmentation) or ``multi`` (number of garments, segmentation).
        split: Where to score: ``val`` while choosing, ``test`` once.
        data_root: Where the data are.
        poolings: Features of whole images, see :meth:`mmmim.features.Features.pool`. What the model does not
            have is left out.
        leave_one_out: Whether to look for the nearest neighbour inside the split that is scored, too.
        rankme: Whether to measure RankMe on that split, too.

    Returns:
        In [0, 1]: ``linear_<feature>`` and ``knn_<feature>`` for the poolings (``linear_all`` is the main score: all
        patch tokens concatenated), ``leave_one_out_<feature>`` if asked for, ``linear_miou``, ``knn_miou``; with
        'pooled' ``cosine_pooled``, the mean cosine of pooled features of different images, 1 where they have
        collapsed; and ``rankme_<feature>``, in dimensions, if asked for.
    """
    train, val = read_split(subset, 'train', data_root), read_split(subset, 'val', data_root)
    test = val if split == 'val' else read_split(subset, split, data_root)
    check_agreement([space for data in (train, val, test) for space in data.spaces])
    sets = [(global_features(data.encode(extract), tuple(poolings)), data.labels) for data in (train, val, test)]
    (fitted, labels), (chosen, chosen_labels), (scored, true) = sets
    assert labels is not None
    assert chosen_labels is not None
    assert true is not None
    classes = int(labels.max()) + 1
    scores = {}
    for name in fitted:
        scores[f'linear_{name}'] = best_linear_accuracy(
            fitted[name], labels, chosen[name], chosen_labels, scored[name], true
        )
        scores[f'knn_{name}'] = accuracy(knn_classify(fitted[name], labels, scored[name], classes, NEIGHBOURS), true)
        if leave_one_out:
            scores[f'leave_one_out_{name}'] = leave_one_out_accuracy(scored[name], true)
        if rankme:
            scores[f'rankme_{name}'] = float(effective_rank(scored[name]))
    if 'pooled' in scored:
        scores['cosine_pooled'] = float(mean_pairwise_cosine(scored['pooled']))
    del fitted, chosen, scored, sets  # gigabytes
    return scores | dense_scores(extract, train, val, test)
