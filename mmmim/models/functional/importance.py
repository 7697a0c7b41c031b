"""Random orders of patches in which important ones tend to come first."""

import torch
from torch import Tensor


def draw_by_importance(weights: Tensor, rng: torch.Generator | None = None) -> Tensor:
    """Draw all patches without replacement, each next one with a probability proportional to its weight.

    The order is that of ``weight / e``, greatest first, with e from an exponential distribution: the first to come of
    independent clocks of these rates (MILAN, arXiv 2208.06049, section 3.3, draws its visible patches so).

    Args:
        weights: ``[G, N]``, not negative; patches without weight come last.
        rng: Random generator on the device; None for torch's.

    Returns:
        ``[G, N]``, int64, indices of patches (no host sync).
    """
    waits = torch.empty_like(weights, dtype=torch.float32).exponential_(generator=rng)
    return (weights.float() / waits).argsort(dim=1, descending=True)
