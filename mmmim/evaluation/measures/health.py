"""Whether representations are healthy or collapsing: measures of features and targets, beside RankMe.

All are pure functions of tensors, computed in fp64 on their device, and return a scalar tensor; nothing waits for the
device (but one that has no fp64: there they are computed on the CPU).

Legend: n rows (tokens or images), D width, K prototypes or channels of a target.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils.precision import with_float64


def mean_pairwise_cosine(features: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows, from the norm of the sum of unit vectors in O(n D).

    Args:
        features: ``[n, D]``. Zero vectors have no direction and do not count.

    Returns:
        From about 0 (unrelated directions) to 1 (one direction); 1 where fewer than two rows are not 0, since they do
        not differ; NaN where a feature is not finite.
    """
    unit = F.normalize(with_float64(features).double(), dim=-1, eps=1e-12)
    count = unit.square().sum()  # of rows that are not 0
    cosine = (unit.sum(dim=0).square().sum() - count) / (count * (count - 1))
    return torch.where(count < 1.5, 1.0, cosine)


def target_entropy(targets: Tensor) -> Tensor:
    """Mean entropy of distributions as a share of the largest possible, log K.

    Args:
        targets: ``[..., K]``, each a distribution.

    Returns:
        From 0 (every target is one prototype) to 1 (every target is uniform).
    """
    return torch.special.entr(with_float64(targets).double()).sum(dim=-1).mean() / math.log(targets.shape[-1])


def prototypes_in_use(targets: Tensor) -> Tensor:
    """Effective number of prototypes: the perplexity of the mean distribution.

    Args:
        targets: ``[..., K]``, each a distribution.

    Returns:
        From 1 (all mass on one prototype) to K (all prototypes have the same mass).
    """
    mean = with_float64(targets).flatten(0, -2).mean(dim=0, dtype=torch.float64)
    return torch.special.entr(mean / mean.sum()).sum().exp()


def positional_share(targets: Tensor, position: Tensor, num_positions: int) -> Tensor:
    """Share of the variance of targets that their position in the image explains.

    One-way analysis of variance over positions, variances summed over channels, without the share that positions
    explain by chance: epsilon squared (Kelley 1935), which is the adjusted R squared.

    Args:
        targets: Targets of n patches, ``[n, K]``.
        position: ``[n]``, int64 in ``[0, num_positions)``.
        num_positions: Number of positions, N.

    Returns:
        From 0 (position says nothing) to 1 (position says everything). 0 where there is nothing to explain, since
        targets do not vary at all (a collapse that entropy, prototypes in use and features tell), and where nothing
        can be told, since no two rows share a position. NaN where a target is not finite.
    """
    targets, position = with_float64(targets), with_float64(position)
    x = targets.double()
    x = x - x.mean(dim=0)
    count = x.new_zeros(num_positions).index_add(0, position, x.new_ones(len(x)))
    sums = x.new_zeros(num_positions, x.shape[1]).index_add(0, position, x)
    total = x.square().sum()
    between = (sums.square().sum(dim=1) / count.clamp(min=1)).sum()
    within = (total - between).clamp(min=0)
    freedom = len(x) - (count > 0).sum()
    share = (1 - (within / freedom) / (total / (len(x) - 1))).clamp(0, 1)
    # Rounding leaves constant targets a variance of about 1e-32 of their square.
    constant = total <= 1e-24 * targets.double().square().sum()
    return torch.where(constant | (freedom == 0), 0.0 * total, share)
