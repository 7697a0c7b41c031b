"""The head of a linear probe, and how a trained probe is stepped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProbeHead(nn.Module):
    """A linear layer on frozen features, behind a batch norm without weights where asked for (MAE, arXiv 2111.06377).

    Statistics are those of the batch in training and running ones, of unbiased variances, in evaluation.

    Args:
        dim: Width D of the features.
        num_classes: Number of classes C.
        batch_norm: Whether features are normalised: MAE, Latent MIM and PiLaMIM; SemanticMIM does not.
        std: Deviation of the initial weights, normal and cut at 2: 0.01 in MAE and PiLaMIM, 0.02 in SemanticMIM.
        bias: Initial biases: ``'zero'``, or ``'uniform'`` within ``1 / sqrt(D)`` as torch's own and PiLaMIM's.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        batch_norm: bool = True,
        std: float = 0.01,
        bias: Literal['zero', 'uniform'] = 'zero',
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=1e-6, affine=False) if batch_norm else nn.Identity()
        self.linear = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=std)
        if bias == 'zero':
            nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[B, C]`` of features ``[B, D]``."""
        return self.linear(self.norm(features))


def losses_of_heads(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a batch by head.

    Args:
        logits: ``[B, C]``, or of K heads ``[B, K, C]``.
        labels: Class indices, ``[B]``.

    Returns:
        A scalar, or ``[K]``.
    """
    if logits.ndim == 2:
        return F.cross_entropy(logits, labels)
    targets = labels[:, None].expand(logits.shape[:2])
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction='none').mean(dim=0)


def train_probe(
    probe: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Any, Tensor]],
    factors: Iterable[float],
    reduction: Literal['mean', 'sum'] = 'mean',
) -> Iterator[Tensor]:
    """Take a step per factor, of the next batch, and yield the loss of each head before it.

    Args:
        probe: Gives logits of features, see :func:`losses_of_heads`.
        optimizer: Has the probe's parameters, and their rates.
        batches: Features and labels ``[B]`` of every step.
        factors: What the optimiser's rates are multiplied by in every step.
        reduction: How the losses of heads become one. With ``'mean'`` (CAPI) every head has its own gradient divided by
            their number, which matters through AdamW's eps alone; with ``'sum'`` (BEiT, DINOv2) its own gradient.

    Yields:
        A scalar, or ``[K]`` for K heads.
    """
    bases = [group['lr'] for group in optimizer.param_groups]
    for factor, (features, labels) in zip(factors, batches, strict=False):
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group['lr'] = base * factor
        optimizer.zero_grad()
        losses = losses_of_heads(probe(features), labels)
        (losses.mean() if reduction == 'mean' else losses.sum()).backward()
        optimizer.step()
        yield losses.detach()
