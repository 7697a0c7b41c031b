"""Sinkhorn-Knopp balancing of tokens over prototypes."""

import torch
from mmengine.dist import all_reduce
from torch import Tensor

#: Added to the exponent so that sums of small exponentials do not underflow in fp32.
_EXPONENT_SHIFT = 50.0


def sinkhorn_knopp_(scores: Tensor, iterations: int = 3, eps: float = 1e-8) -> Tensor:
    """Balance tokens over prototypes; ``scores`` becomes the assignments, in place.

    One iteration divides by the sum over tokens (plus ``eps``), then by the sum over prototypes (plus ``eps``). The
    matrix itself is written twice only, by the exponential and by the final scaling; iterations update scaling
    vectors. Sums over tokens, and the maxima of the stable exponential, are all-reduced over ranks.

    Legend: P groups of tokens that are balanced on their own, B tokens in a group on this rank, K prototypes.

    Args:
        scores: Logits over temperature, ``[P, B, K]``, fp32.
        iterations: Number of iterations.
        eps: Added to every sum.

    Returns:
        ``scores``.
    """

    def reduced(value: Tensor, op: str) -> Tensor:
        all_reduce(value, op=op)
        return value

    scores.sub_(reduced(scores.amax(dim=1, keepdim=True), 'max')).add_(_EXPONENT_SHIFT).exp_()
    prototype, token = torch.ones_like(scores[:, 0]), torch.ones_like(scores[:, :, 0])
    with torch.autocast(scores.device.type, enabled=False):
        for _ in range(iterations):
            sums = reduced(torch.bmm(token.unsqueeze(1), scores).squeeze(1) * prototype, 'sum')
            prototype = prototype / (sums + eps)
            token = token / (torch.bmm(scores, prototype.unsqueeze(2)).squeeze(2) * token + eps)
            # Only the product of the two scales matters; left alone, one vanishes and the other overflows.
            largest = prototype.amax(dim=1, keepdim=True)
            prototype, token = prototype / largest, token * largest
    return scores.mul_(prototype.unsqueeze(1)).mul_(token.unsqueeze(2))
