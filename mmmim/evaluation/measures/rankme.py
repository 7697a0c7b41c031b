"""RankMe: how many directions features use (Garrido et al. 2023, arXiv 2210.02885)."""

import torch
from torch import Tensor

from mmmim.utils.precision import with_float64

#: Rows that are in fp64 at a time.
CHUNK = 8192


def rankme(features: Tensor, eps: float = 1e-7) -> Tensor:
    """Effective rank, equations 1 and 2 of RankMe (Garrido et al. 2023, arXiv 2210.02885).

    ``exp(- sum_k p_k log p_k)`` with ``p_k = s_k / sum(s) + eps`` and s the singular values of the features, which are
    not centred, as in the paper. Computed in fp64 in pieces of the rows, on the features' device, without waiting for
    it: no matrix is larger than ``min(n, D)`` squared.

    Args:
        features: Features of n samples, ``[n, D]``.
        eps: The paper's epsilon, which is added to every share ``p_k``.

    Returns:
        Number of dimensions as a scalar tensor, from 1 (all features on a line) to ``min(n, D)``; 1 where all features
        are 0, NaN where one is not finite.
    """
    features = with_float64(features)
    finite = features.isfinite().all()
    rows = features if features.shape[0] >= features.shape[1] else features.T
    # Roots of the eigenvalues of the smaller Gram matrix: faster than singular values, and off by some 1e-8 of the
    # largest, as is what fp32 rounded in the features, and below eps.
    gram = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in rows.split(CHUNK):
        x = torch.where(finite, part.double(), 0.0)  # eigenvalues of others are an error
        gram.addmm_(x.T, x)
    s = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = s / s.sum() + eps
    rank = torch.where(s.sum() > 0, (-(p * p.log()).sum()).exp(), 1.0)
    return torch.where(finite, rank, torch.nan)
