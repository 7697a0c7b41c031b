"""Label maps and patches: segmentation from patch features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmim.utils.precision import with_float64


def confusion_matrix(predicted: Tensor, true: Tensor, num_classes: int, ignored: Sequence[int] = ()) -> Tensor:
    """How many pixels of every true label were given every label; those of parts of the pixels add up.

    Args:
        predicted: Labels, any shape, integers in ``[0, num_classes)``.
        true: Labels of the same shape.
        num_classes: Number of classes, K.
        ignored: True labels whose pixels do not count; these may be outside of ``[0, num_classes)``.

    Returns:
        ``[K, K]``, int64, true labels in rows.
    """
    true, predicted = true.flatten().long(), predicted.flatten().long()
    valid = torch.isin(true, torch.tensor(ignored, device=true.device, dtype=true.dtype), invert=True)
    pairs = true[valid] * num_classes + predicted[valid]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def mean_iou(confusion: Tensor) -> float:
    """Intersection over union, averaged over the classes that occur in either labels.

    As in CAPI's evaluation (arXiv 2502.08769), an ignored label that is predicted for a pixel that counts is a class of
    intersection 0.

    Args:
        confusion: Confusion matrix ``[K, K]``, see :func:`confusion_matrix`.

    Returns:
        The mean, in [0, 1]; NaN where no pixel counts.
    """
    confusion = with_float64(confusion).double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    present = union > 0
    return float((intersection[present] / union[present]).mean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of correct pixels, in [0, 1]; NaN where no pixel counts."""
    confusion = with_float64(confusion)
    return float(confusion.diagonal().sum().double() / confusion.sum())
