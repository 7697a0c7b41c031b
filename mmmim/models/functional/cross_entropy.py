"""Cross-entropy with soft targets, of logits that are linear in features."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy_gradient_(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sum over rows of ``- sum_k targets_k log softmax(logits / temperature)_k``, and its gradient.

    Args:
        logits: ``[rows, K]``, fp32; the gradient by them is written into this tensor.
        targets: ``[rows, K]``, fp32; rows need not sum to exactly one.
        temperature: Divides the logits.

    Returns:
        Scalar, and ``logits``, which is the gradient now.
    """
    logits.mul_(1 / temperature)
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    mass = targets.sum(dim=-1)
    dot = torch.bmm(targets.unsqueeze(1), logits.unsqueeze(2)).flatten()  # without a tensor of the products
    sums = logits.exp_().sum(dim=-1)
    loss = (mass * sums.log() - dot).sum()
    return loss, logits.mul_((mass / sums).unsqueeze(-1)).sub_(targets).mul_(1 / temperature)


class _LinearSoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, temperature: float, rows: int, with_gradient: bool
    ) -> Tensor:
        loss = x.new_zeros((), dtype=torch.float32)
        grad_x = torch.empty_like(x, dtype=torch.float32) if with_gradient else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if with_gradient else None

        def chunk(part: slice) -> None:
            # A function, so that what a chunk has made is free when the next begins.
            logits = F.linear(x[part], weight)
            # Gradients of float16 come without the scale of the loss here, and would become zero in it.
            product = torch.float32 if logits.dtype == torch.float16 else logits.dtype
            with torch.autocast(x.device.type, enabled=False):
                chunk_loss, gradient = cross_entropy_gradient_(logits.float(), targets[part].float(), temperature)
                loss.add_(chunk_loss)
                if grad_x is not None and grad_weight is not None:
                    gradient = gradient.to(product)
                    grad_x[part] = gradient @ weight.to(product)
                    grad_weight.add_(gradient.T @ x[part].to(product))

        for start in range(0, len(x), rows):
            chunk(slice(start, start + rows))
        scale = 1 / len(x)
        if grad_x is not None and grad_weight is not None:
            ctx.save_for_backward(grad_x.mul_(scale), grad_weight.mul_(scale))
        ctx.types = x.dtype, weight.dtype
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_weight = ctx.saved_tensors
        of_x, of_weight = ctx.types
        return (grad_x * grads[0]).to(of_x), (grad_weight * grads[0]).to(of_weight), None, None, None, None


def linear_soft_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, rows: int = 1024
) -> Tensor:
    """Mean over rows of ``- sum_k targets_k log softmax(x @ weight.T / temperature)_k``, in fp32.

    Logits are made, and their gradient with them, for some rows at a time: no tensor of all of them, ``[..., K]``, is
    made or kept for the backward pass. Products are in the type of autocast.

    Args:
        x: Features, ``[..., D]``, float32 or what autocast gives.
        weight: Weight of the linear layer that makes logits, ``[K, D]``.
        targets: ``[..., K]``, without gradient; rows need not sum to exactly one.
        temperature: Divides the logits.
        rows: Rows at a time.

    Returns:
        Scalar.
    """
    return _LinearSoftCrossEntropy.apply(
        x.flatten(0, -2), weight, targets.flatten(0, -2), temperature, rows, torch.is_grad_enabled()
    )
