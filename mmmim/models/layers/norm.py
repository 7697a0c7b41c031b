"""Normalisations."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.utils import InputError


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the autocast.

    Args:
        dim: Width D.
        eps: Added to the mean square.
        affine: Whether to learn a weight ``[D]``; CAPI's final norms have none.
    """

    def __init__(self, dim: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]`` of the same dtype."""
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), (self.dim,), weight, self.eps).to(x.dtype)


def make_norm(kind: str, eps: float) -> Callable[..., nn.Module]:
    """What makes a norm of a width: RMSNorm for 'rms', LayerNorm for 'layer'.

    Raises:
        InputError: There is no such kind.
    """
    if kind == 'rms':
        return partial(RMSNorm, eps=eps)
    if kind == 'layer':
        return partial(_layer_norm, eps=eps)
    raise InputError(f"norm must be 'rms' or 'layer', got {kind!r}.")


def _layer_norm(dim: int, eps: float, affine: bool = True) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=eps, elementwise_affine=affine)
