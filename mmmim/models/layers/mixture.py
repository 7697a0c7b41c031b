"""Mixtures of the states of several blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mix_states(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Weighted sums of states (CrossMAE, arXiv 2401.14391, inter-block attention; MFF, arXiv 2308.00261).

    Args:
        states: K states, each ``[G, L, D]``.
        weights: Weights of the states in each of J sums, ``[J, K]``; not normalised here.

    Returns:
        ``[J, G, L, D]``.
    """
    return torch.tensordot(weights, torch.stack(tuple(states)), dims=1)
