"""Accuracy where an image may have several labels, and the choice of a head or setting."""

from collections.abc import Sequence

import torch
from torch import Tensor


def count_accepted(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How many predictions are among the accepted labels of their images; images without any are left out.

    Args:
        predictions: Class indices, ``[..., n]``, such as ``[K, n]`` of K heads.
        targets: Accepted class indices, ``[n, A]``, padded with -1; or one of each image, ``[n]``.

    Returns:
        Counts ``[...]`` of right ones, and the number of images with a label; sums over batches (and processes) of
        both give the accuracy.
    """
    targets = targets.reshape(len(targets), -1)
    accepted = (targets >= 0).any(dim=1)
    right = ((predictions.unsqueeze(-1) == targets) & (targets >= 0)).any(dim=-1)
    return right.sum(dim=-1), accepted.sum()


def restrict(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """Logits ``[..., C']`` of the classes of a data set, in its order, from those of all, ``[..., C]``."""
    return logits[..., torch.as_tensor(classes, device=logits.device)]


def first_best(scores: Sequence[float]) -> int:
    """Place of the highest score, the first of several: every choice of a setting is made so."""
    return max(range(len(scores)), key=scores.__getitem__)


def best_of_each(sources: Sequence[str], scores: Sequence[float]) -> dict[str, int]:
    """The first head with the highest score, for each source of features.

    Args:
        sources: Source of every head, ``[K]``.
        scores: Score of every head, ``[K]``.

    Returns:
        Index of the head by source.
    """
    best: dict[str, int] = {}
    for i, (source, score) in enumerate(zip(sources, scores, strict=True)):
        if source not in best or score > scores[best[source]]:
            best[source] = i
    return best
