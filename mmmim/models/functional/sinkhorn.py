"""Sinkhorn-Knopp balancing of tokens over prototypes."""

from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor

#: Added to the exponent so that sums of small exponentials do not underflow in fp32.
_EXPONENT_SHIFT = 50.0


@dataclass
class SinkhornScaling:
    """What turns logits into assignments: ``exp(logits / t - shift) * prototype * token``.

    Legend: P groups of tokens that are balanced on their own, B tokens in a group on this rank, K prototypes.

    Attributes:
        shift: ``[P, K]``.
        prototype: Scale of each prototype, ``[P, K]``.
        token: Scale of each token, ``[P, B]``.
    """

    shift: Tensor
    prototype: Tensor
    token: Tensor


def sinkhorn_knopp_(
    scores: Tensor, iterations: int = 3, eps: float = 1e-8, distributed: bool = True
) -> SinkhornScaling:
    """Balance tokens over prototypes; ``scores`` becomes the assignments, in place.

    One iteration divides by the sum over tokens (plus ``eps``), then by the sum over prototypes (plus ``eps``). The
    matrix itself is written twice only: by the exponential and by the final scaling; iterations update scaling
    vectors. Sums over tokens, and the maxima of the stable exponential, are all-reduced over ranks.

    Args:
        scores: Logits over temperature, ``[P, B, K]``, fp32: each of the P groups is balanced on its own.
        iterations: Number of iterations.
        eps: Added to every sum.
        distributed: Whether groups span all ranks.

    Returns:
        The scaling, to compute the assignment of any token again.
    """

    def reduce(value: Tensor, op: str) -> Tensor:
        if distributed:
            all_reduce(value, op=op)
        return value

    shift = reduce(scores.amax(dim=1), 'max') - _EXPONENT_SHIFT
    scores.sub_(shift.unsqueeze(1)).exp_()
    prototype, token = torch.ones_like(shift), torch.ones_like(scores[:, :, 0])
    with torch.autocast(scores.device.type, enabled=False):
        for _ in range(iterations):
            sums = reduce(torch.bmm(token.unsqueeze(1), scores).squeeze(1) * prototype, 'sum')
            prototype = prototype / (sums + eps)
            token = token / (torch.bmm(scores, prototype.unsqueeze(2)).squeeze(2) * token + eps)
            # Only the product of the two scales matters; left alone, one vanishes and the other overflows.
            largest = prototype.amax(dim=1, keepdim=True)
            prototype, token = prototype / largest, token * largest
    scores.mul_(prototype.unsqueeze(1)).mul_(token.unsqueeze(2))
    return SinkhornScaling(shift, prototype, token)
