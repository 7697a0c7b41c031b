"""Logistic regression on frozen features."""

import torch
from torch import Tensor

#: Samples whose logits are formed at a time.
CHUNK = 65_536


class Standardizer:
    """Zero mean and unit variance per channel, fitted on training features.

    Args:
        features: ``[n, D]``.
    """

    def __init__(self, features: Tensor) -> None:
        variance, self.mean = torch.var_mean(features, dim=0, correction=0)
        # A constant channel stays constant, as in scikit-learn.
        self.std = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise ``[m, D]``."""
        return (features - self.mean) / self.std


def _loss_and_gradient(weight: Tensor, features: Tensor, labels: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy plus ``l2 / 2 * |W|^2``, and its gradient; the last column of ``weight`` is the bias."""
    loss = 0.5 * l2 * weight[:, :-1].square().sum()
    gradient = torch.cat([l2 * weight[:, :-1], torch.zeros_like(weight[:, -1:])], dim=1)
    for x, y in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        log_p = torch.addmm(weight[:, -1], x, weight[:, :-1].T).log_softmax(dim=1)
        loss = loss - log_p.gather(1, y.unsqueeze(1)).sum() / len(features)
        error = log_p.exp()
        error[torch.arange(len(y), device=y.device), y] -= 1
        error /= len(features)
        gradient[:, :-1] += error.T @ x
        gradient[:, -1] += error.sum(dim=0)
    return loss, gradient


def fit_logistic_regression(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    c: float = 1.0,
    max_iter: int = 100,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
) -> Tensor:
    """Fit multinomial logistic regression by L-BFGS (memory 5), on the features' device.

    The objective is scikit-learn's: ``c * sum(cross-entropy) + |W|^2 / 2``, the bias free.

    Args:
        features: ``[n, D]``.
        labels: ``[n]``, int64 in ``[0, num_classes)``.
        num_classes: K.
        c: Inverse strength of the penalty.
        max_iter: Iterations of L-BFGS.
        tolerance: Stop when no entry of the gradient (of the objective over ``c * n``) is greater.
        start: Weights to start from, as returned.

    Returns:
        Weights and, in the last column, biases: ``[K, D + 1]``.
    """
    weight = features.new_zeros(num_classes, features.shape[1] + 1) if start is None else start.clone()
    l2 = 1 / (c * len(features))
    optimizer = torch.optim.LBFGS(
        [weight],
        max_iter=max_iter,
        max_eval=2 * max_iter,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        history_size=5,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        loss, weight.grad = _loss_and_gradient(weight, features, labels, l2)
        return loss

    with torch.no_grad():
        optimizer.step(closure)
    return weight


def predict(weight: Tensor, features: Tensor) -> Tensor:
    """Classes ``[m]`` of features ``[m, D]`` from weights ``[K, D + 1]``."""
    logits = [torch.addmm(weight[:, -1], x, weight[:, :-1].T) for x in features.split(CHUNK)]
    return torch.cat(logits).argmax(dim=1)
