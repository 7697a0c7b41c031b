"""Balanced assignments of teacher tokens to prototypes, and their online clustering (CAPI, arXiv 2502.08769).

The tensors of logits and assignments, ``[N, B, K]``, are by far the largest of a training step. Positions are
independent, so they are processed in chunks: each chunk forms its assignments, hands out those that are targets, and
forms its loss and the gradient of that loss. Two tensors of a chunk are alive at once, and none of the chunk before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cross_entropy import cross_entropy_gradient_
from .sinkhorn import sinkhorn_knopp_


@dataclass(frozen=True)
class Balancing:
    """How tokens are balanced over prototypes.

    Attributes:
        positional: Whether each position is balanced on its own over the batch, or all tokens together.
        temperature: Divides the logits.
        iterations: Iterations of Sinkhorn-Knopp.
        eps: Added to every sum of Sinkhorn-Knopp.
        chunk_positions: Positions processed at a time, the same on all ranks. None, or without ``positional``: all.
    """

    positional: bool = True
    temperature: float = 0.06
    iterations: int = 3
    eps: float = 1e-8
    chunk_positions: int | None = None

    def chunks(self, num_patches: int) -> Iterator[slice]:
        """Positions of each chunk."""
        step = (self.positional and self.chunk_positions) or num_patches
        for start in range(0, num_patches, step):
            yield slice(start, min(start + step, num_patches))

    def assign(self, logits: Tensor) -> Tensor:
        """Assignments ``[P, B, K]``, fp32, of logits of the same shape, which stay as they are."""
        assignments = logits / self.temperature
        sinkhorn_knopp_(
            assignments if self.positional else assignments.view(1, -1, logits.shape[-1]), self.iterations, self.eps
        )
        return assignments


def _pick(assignments: Tensor, part: slice, where: Tensor, image: Tensor) -> Tensor:
    """Assignments ``[G, M, K]`` of the tokens asked for, from ``[P, B, K]``; zero for those of other chunks."""
    inside = (where >= part.start) & (where < part.stop)
    picked = assignments[(where - part.start).clamp(0, len(assignments) - 1), image]
    return picked.masked_fill_(~inside.unsqueeze(-1), 0.0)


@torch.no_grad()
def assign_tokens(
    tokens: Tensor, score: Callable[[Tensor], Tensor], where: Tensor, image: Tensor, balancing: Balancing
) -> Tensor:
    """Balanced assignments of some of the tokens of a batch.

    Args:
        tokens: ``[B, N, D]``.
        score: Gives the logits ``[..., K]`` of tokens ``[..., D]``.
        where: Patches whose assignments are wanted, ``[G, M]``, int64 in ``[0, N)``.
        image: Images of these patches, int64 in ``[0, B)``, broadcast to ``[G, M]``.
        balancing: How tokens are balanced over prototypes.

    Returns:
        ``[G, M, K]``, fp32, without gradient.
    """

    def chunk(part: slice) -> Tensor:
        logits = score(tokens[:, part].transpose(0, 1)).float()
        return _pick(balancing.assign(logits), part, where, image)

    parts = balancing.chunks(tokens.shape[1])
    targets = chunk(next(parts))
    for part in parts:
        targets += chunk(part)
    return targets


class _OnlineClustering(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor,
        where: Tensor,
        image: Tensor,
        balancing: Balancing,
        temperature: float,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        batch, num_patches, _ = tokens.shape
        loss = tokens.new_zeros((), dtype=torch.float32)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        targets = tokens.new_zeros(*where.shape, len(weight), dtype=torch.float32)

        def chunk(part: slice) -> None:
            # A function, so that what a chunk has made is free when the next begins.
            rows = F.normalize(tokens[:, part], dim=-1, eps=1e-7).transpose(0, 1)
            logits = F.linear(rows, weight, bias).float()
            with torch.autocast(rows.device.type, enabled=False):
                assignments = balancing.assign(logits)
                targets.add_(_pick(assignments, part, where, image))
                chunk_loss, gradient = cross_entropy_gradient_(
                    logits.flatten(0, 1), assignments.flatten(0, 1), temperature
                )
                loss.add_(chunk_loss)
                if with_gradient:
                    grad_weight.addmm_(gradient.T, rows.flatten(0, 1).float())
                    grad_bias.add_(gradient.sum(dim=0))

        for part in balancing.chunks(num_patches):
            chunk(part)
        scale = 1 / (num_patches * batch)
        ctx.save_for_backward(grad_weight.mul_(scale), grad_bias.mul_(scale))
        ctx.mark_non_differentiable(targets)
        return loss * scale, targets

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_weight, grad_bias = ctx.saved_tensors
        return None, grad_weight * grads[0], grad_bias * grads[0], None, None, None, None, None


def online_clustering(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    where: Tensor,
    image: Tensor,
    balancing: Balancing,
    temperature: float = 0.12,
) -> tuple[Tensor, Tensor]:
    """Clustering loss of a batch, and the assignments of some of its tokens.

    Logits are linear in the L2-normalised tokens. Assignments are balanced without gradient; the loss is the mean over
    all tokens of the cross-entropy between them and ``softmax(logits / temperature)``.

    Args:
        tokens: ``[B, N, D]``; they get no gradient.
        weight: Weight of the linear layer that makes logits, ``[K, D]``.
        bias: Bias of the linear layer that makes logits, ``[K]``.
        where: Patches whose assignments are wanted, ``[G, M]``, int64 in ``[0, N)``.
        image: Images of these patches, int64 in ``[0, B)``, broadcast to ``[G, M]``.
        balancing: How assignments come from logits.
        temperature: Divides the logits that are trained, not those of the assignments.

    Returns:
        Scalar loss, and assignments ``[G, M, K]``, fp32, without gradient.
    """
    return _OnlineClustering.apply(tokens, weight, bias, where, image, balancing, temperature, torch.is_grad_enabled())
