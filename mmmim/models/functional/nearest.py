"""The nearest of some centres, by Euclidean distance."""

import torch
from torch import Tensor


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre, by Euclidean distance: one matrix product.

    Args:
        points: Points that look for a centre, ``[..., D]``.
        centres: The centres, ``[K, D]``.

    Returns:
        ``[...]``, int64 in ``[0, K)``; of equally near ones the first.
    """
    # |p - c|^2 / 2 without |p|^2 / 2, which is the same for all centres.
    half = centres.square().sum(dim=1) / 2
    return torch.addmm(-half, points.flatten(0, -2), centres.t()).argmax(dim=1).view(points.shape[:-1])
