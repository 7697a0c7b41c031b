"""Cross-entropy with soft targets."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over rows of ``- sum_k targets_k log softmax(logits / temperature)_k``, in fp32.

    Args:
        logits: Predicted logits, ``[..., K]``.
        targets: ``[..., K]``; rows need not sum to exactly one.
        temperature: Divides the logits.

    Returns:
        Scalar.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_prob = F.log_softmax(logits.float() / temperature, dim=-1)
        return -(targets.float() * log_prob).sum(dim=-1).mean()
