"""Labels of patches, from label maps."""

from __future__ import annotations

import torch
from torch import Tensor

from mmmim.models.layers import patchify

#: So few votes for one thing are compared with each other instead of counted by class.
FEW = 32


def patch_labels(label_maps: Tensor, patch_size: int) -> Tensor:
    """Cut label maps ``[B, H, W]`` into the labels of each patch's pixels: ``[B, N, patch_size**2]``, int64."""
    return patchify(label_maps.unsqueeze(1), patch_size).long()


def mode(votes: Tensor, num_classes: int, dim: int = -1) -> Tensor:
    """The most frequent class along a dimension, the smallest of several.

    Args:
        votes: ``[..., k, ...]``, integers in ``[0, num_classes)``.
        num_classes: Number of classes, K.
        dim: Dimension of the k votes.

    Returns:
        ``[..., ...]``, of the votes' type.
    """
    votes = votes.movedim(dim, 0)
    k = len(votes)
    if k > FEW:
        counts = torch.zeros(*votes.shape[1:], num_classes, dtype=torch.int32, device=votes.device)
        index = votes.movedim(0, -1).long()
        counts.scatter_add_(-1, index, torch.ones_like(index, dtype=torch.int32))
        return counts.argmax(dim=-1).to(votes.dtype)  # the first of equal counts
    # Every vote counts itself and its equals before it: the last of them knows of all. Comparing all pairs is faster
    # than counting by class where there are hundreds of classes.
    counts = torch.zeros_like(votes, dtype=torch.uint8)
    for i in range(k):
        counts[i:] += votes[i:] == votes[i]
    small = torch.int16 if (k + 1) * num_classes < 2**15 else torch.int64
    scores = counts.to(small).mul_(num_classes).sub_(votes.to(small))
    return scores.amax(dim=0).neg_().remainder_(num_classes).to(votes.dtype)
