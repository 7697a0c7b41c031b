"""Online clustering of teacher tokens (CAPI, arXiv 2502.08769).

The tensors of logits and assignments, ``[N, B, K]``, are by far the largest of a training step. Positions are
independent, so they are processed in chunks: each chunk forms its assignments, its loss and the gradient of that
loss, and only vectors survive it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sinkhorn import SinkhornScaling, sinkhorn_knopp_


def _chunk_gradient_(logits: Tensor, assignments: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over tokens, and its gradient, which replaces ``logits`` (all ``[P, B, K]``)."""
    logits.mul_(1 / temperature)
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    mass = assignments.sum(dim=-1)
    dot = (assignments * logits).sum(dim=-1)
    sums = logits.exp_().sum(dim=-1)
    loss = (mass * sums.log() - dot).sum()
    return loss, logits.mul_((mass / sums).unsqueeze(-1)).sub_(assignments).mul_(1 / temperature)


class _OnlineClustering(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, temperatures: tuple[float, float], iterations: int,
        eps: float, chunk_size: int, with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        groups, batch, _ = tokens.shape
        target_temperature, temperature = temperatures
        loss = tokens.new_zeros((), dtype=torch.float32)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        scalings = []
        for chunk in tokens.split(chunk_size):
            chunk = F.normalize(chunk, dim=-1, eps=1e-7)  # here, not before: a copy of all tokens would be large
            logits = F.linear(chunk, weight, bias).float()
            assignments = logits / target_temperature
            scalings.append(sinkhorn_knopp_(assignments, iterations, eps))
            chunk_loss, gradient = _chunk_gradient_(logits, assignments, temperature)
            loss += chunk_loss
            if with_gradient:
                rows = gradient.flatten(0, 1)
                with torch.autocast(rows.device.type, enabled=False):
                    grad_weight.addmm_(rows.T, chunk.flatten(0, 1).float())
                    grad_bias += rows.sum(dim=0)
        scale = 1 / (groups * batch)
        ctx.save_for_backward(grad_weight.mul_(scale), grad_bias.mul_(scale))
        vectors = [torch.cat(parts) for parts in zip(*((s.shift, s.prototype, s.token) for s in scalings), strict=True)]
        ctx.mark_non_differentiable(*vectors)
        return (loss * scale, *vectors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_weight, grad_bias = ctx.saved_tensors
        return None, grad_weight * grads[0], grad_bias * grads[0], None, None, None, None, None


def online_clustering(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    target_temperature: float = 0.06,
    temperature: float = 0.12,
    iterations: int = 3,
    eps: float = 1e-8,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, SinkhornScaling]:
    """Clustering loss of tokens, and the scaling that gives their assignments.

    Logits are linear in the L2-normalised tokens. Assignments are Sinkhorn-Knopp on ``logits / target_temperature``
    without gradient; the loss is the mean over all tokens of the cross-entropy between them and
    ``softmax(logits / temperature)``.

    Args:
        tokens: ``[P, B, D]``: P groups balanced on their own (the positions in CAPI), B tokens of each on this rank.
            They get no gradient.
        weight: ``[K, D]``.
        bias: ``[K]``.
        target_temperature: Of the assignments.
        temperature: Of the prediction.
        iterations: Of Sinkhorn-Knopp.
        eps: Of Sinkhorn-Knopp.
        chunk_tokens: Tokens processed at a time, rounded down to whole groups but at least one: three tensors of
            ``chunk_tokens x K`` are alive at once. None: all.

    Returns:
        Scalar loss, and scaling.
    """
    groups, batch, _ = tokens.shape
    chunk_size = groups if chunk_tokens is None else max(chunk_tokens // batch, 1)
    loss, *vectors = _OnlineClustering.apply(
        tokens, weight, bias, (target_temperature, temperature), iterations, eps, chunk_size, torch.is_grad_enabled()
    )
    return loss, SinkhornScaling(*vectors)
