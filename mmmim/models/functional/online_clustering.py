"""Online clustering of teacher tokens (CAPI, arXiv 2502.08769).

The tensors of logits and assignments, ``[N, B, K]``, are by far the largest of a training step. Positions are
independent, so they are processed in chunks: each chunk forms its assignments, hands out those that are targets, and
forms its loss and the gradient of that loss.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sinkhorn import sinkhorn_knopp_


def _cross_entropy_gradient_(logits: Tensor, assignments: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over tokens, and its gradient, which replaces ``logits`` (all ``[tokens, K]``)."""
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
        ctx: Any,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor,
        where: Tensor,
        image: Tensor,
        options: dict[str, Any],
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        batch, num_patches, _ = tokens.shape
        step = (options['positional'] and options['chunk_positions']) or num_patches
        loss = tokens.new_zeros((), dtype=torch.float32)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        targets = tokens.new_zeros(*where.shape, len(weight), dtype=torch.float32)
        for start in range(0, num_patches, step):
            chunk = F.normalize(tokens[:, start : start + step], dim=-1, eps=1e-7).transpose(0, 1)
            shape = (*chunk.shape[:2], len(weight))  # P, B, K
            rows = chunk.flatten(0, 1)
            logits = F.linear(rows, weight, bias).float()
            assignments = logits / options['target_temperature']
            groups = assignments.view(shape) if options['positional'] else assignments.unsqueeze(0)
            sinkhorn_knopp_(groups, options['iterations'], options['eps'])

            inside = (where >= start) & (where < start + step)
            picked = assignments.view(shape)[(where - start).clamp(0, shape[0] - 1), image]
            targets += picked.masked_fill_(~inside.unsqueeze(-1), 0.0)

            chunk_loss, gradient = _cross_entropy_gradient_(logits, assignments, options['temperature'])
            loss += chunk_loss
            if with_gradient:
                with torch.autocast(rows.device.type, enabled=False):
                    grad_weight.addmm_(gradient.T, rows.float())
                    grad_bias += gradient.sum(dim=0)
        scale = 1 / (num_patches * batch)
        ctx.save_for_backward(grad_weight.mul_(scale), grad_bias.mul_(scale))
        ctx.mark_non_differentiable(targets)
        return loss * scale, targets

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_weight, grad_bias = ctx.saved_tensors
        return None, grad_weight * grads[0], grad_bias * grads[0], None, None, None, None


def online_clustering(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    where: Tensor,
    image: Tensor,
    positional: bool = True,
    target_temperature: float = 0.06,
    temperature: float = 0.12,
    iterations: int = 3,
    eps: float = 1e-8,
    chunk_positions: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Clustering loss of a batch, and the assignments of some of its tokens.

    Logits are linear in the L2-normalised tokens. Assignments are Sinkhorn-Knopp on ``logits / target_temperature``
    without gradient; the loss is the mean over all tokens of the cross-entropy between them and
    ``softmax(logits / temperature)``.

    Args:
        tokens: ``[B, N, D]``; they get no gradient.
        weight: ``[K, D]``.
        bias: ``[K]``.
        where: Patches whose assignments are wanted, ``[G, M]``, int64 in ``[0, N)``.
        image: Their images, int64 in ``[0, B)``, broadcast to ``[G, M]``.
        positional: Whether each position is balanced on its own over the batch, or all tokens together.
        target_temperature: Of the assignments.
        temperature: Of the prediction.
        iterations: Of Sinkhorn-Knopp.
        eps: Of Sinkhorn-Knopp.
        chunk_positions: Positions processed at a time: about three tensors of ``chunk_positions x B x K`` are alive at
            once. The same on all ranks. None, or without ``positional``: all.

    Returns:
        Scalar loss, and assignments ``[G, M, K]``, fp32, without gradient.
    """
    options = {
        'positional': positional,
        'target_temperature': target_temperature,
        'temperature': temperature,
        'iterations': iterations,
        'eps': eps,
        'chunk_positions': chunk_positions,
    }
    return _OnlineClustering.apply(tokens, weight, bias, where, image, options, torch.is_grad_enabled())
