"""Norms of tokens, by name: LayerNorm and RMSNorm."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.utils import InputError


class _RMSNorm(torch.autograd.Function):
    """The norm on a CPU, where torch has no kernel: a third of the passes, and one saved tensor instead of three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        # A norm, because the mean of squares would write the squares first.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, weight)
        out = x * scale
        return out if weight is None else out.mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        normed, grad = x * scale, grads[0]
        grad_x = grad.clone() if weight is None else grad * weight
        product = grad * normed
        grad_weight = None
        if weight is not None:
            grad_weight = product.flatten(0, -2).sum(dim=0)
            mean = torch.mv(product.flatten(0, -2), weight).view_as(scale).div_(x.shape[-1])
        else:
            mean = product.mean(dim=-1, keepdim=True)
        return grad_x.addcmul_(normed, mean, value=-1).mul_(scale), grad_weight, None


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the autocast.

    Args:
        dim: Width D of the tokens.
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
        if x.device.type == 'cpu' and not torch.compiler.is_compiling():
            with torch.autocast('cpu', enabled=False):
                return _RMSNorm.apply(x.float(), weight, self.eps).to(x.dtype)
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
