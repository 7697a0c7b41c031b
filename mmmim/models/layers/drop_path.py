"""Stochastic depth that saves the work it drops."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError


def _select(value: Any, index: Tensor, batch: int) -> Any:
    """Rows of a tensor, of a tuple of tensors or of None; what is shared by the batch (first size 1) stays."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_select(item, index, batch) for item in value)
    return value.index_select(0, index) if value.shape[0] == batch else value


def drop_path_rates(rate: float | Sequence[float], depth: int) -> list[float]:
    """The rate of every block: the same, or from the first to the last of two rates in equal steps (BEiT).

    Raises:
        InputError: Not a share, nor two of them.
    """
    ends = tuple(rate) if isinstance(rate, Sequence) else (rate, rate)
    if len(ends) != 2 or not all(0 <= end < 1 for end in ends):
        raise InputError(f'drop_path_rate must be a share below 1, or those of the first and last block, got {rate!r}.')
    first, last = ends
    return [first + (last - first) * i / max(depth - 1, 1) for i in range(depth)]


def residual(branch: Callable[..., Tensor], x: Tensor, *inputs: Any, drop_prob: float = 0.0) -> Tensor:
    """``x + branch(x, *inputs)``, on a random subset of the samples when ``drop_prob > 0``.

    The subset has exactly ``max(int(G * (1 - drop_prob)), 1)`` samples and its output is scaled by ``G / kept``; the
    other samples skip the computation ("efficient stochastic depth").

    Args:
        branch: The residual function, of ``x`` and ``inputs``.
        x: ``[G, L, D]``.
        inputs: Tensors (or tuples of tensors, or None) whose first size is G or, where shared by all samples, 1.
        drop_prob: Share of samples to drop.

    Returns:
        ``[G, L, D]``.
    """
    if drop_prob == 0.0:
        return x + branch(x, *inputs)
    batch = x.shape[0]
    keep = max(int(batch * (1 - drop_prob)), 1)
    index = torch.randperm(batch, device=x.device)[:keep]
    # index_select, unlike x[index], knows in its backward that rows are whole: it adds them without sorting indices.
    update = branch(x.index_select(0, index), *(_select(value, index, batch) for value in inputs))
    return x.index_add(0, index, update.to(x.dtype), alpha=batch / keep)
