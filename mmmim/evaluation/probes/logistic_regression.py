"""Logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.precision import widest_float

from .lbfgs import minimize
from .rows import Rows


def _logits(weight: Tensor, features: Tensor) -> Tensor:
    """``[m, P, K]`` of weights ``[P, K, D + 1]``, by one product of matrices."""
    columns = weight[..., :-1].flatten(0, 1).T
    return torch.addmm(weight[..., -1].flatten(), features, columns).unflatten(1, weight.shape[:2])


class Objective:
    """Mean cross-entropy plus ``|W|^2 / (2 c n)`` for several ``c``, and its gradient, in one pass over the data.

    Sums are in float64 (float32 on devices without it) over the chunks, and over the processes if asked for.
    """

    def __init__(self, features: Rows, labels: Tensor, num_classes: int, c: Sequence[float], distributed: bool) -> None:
        self.features, self.labels, self.distributed = features, labels, distributed
        self.shape = num_classes, features.width + 1
        self.chunk = features.rows_per_chunk(len(c) * num_classes)
        self.wide = widest_float(features.device)
        count = torch.tensor([len(features)], dtype=self.wide, device=features.device)
        self.count = self._sum(count)
        self.l2 = 1 / (torch.tensor(c, dtype=self.wide, device=features.device) * self.count)

    def _sum(self, values: Tensor) -> Tensor:
        if self.distributed:
            all_reduce(values)
        return values

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and gradients, see :data:`mmmim.evaluation.probes.lbfgs.Objective`."""
        weight = points.unflatten(1, self.shape)
        loss = points.new_zeros(len(points), dtype=self.wide)
        gradient = torch.zeros_like(weight, dtype=self.wide)
        labels = self.labels.split(self.chunk) if len(self.labels) else ()  # a process may have no rows
        for x, y in zip(self.features.chunks(self.chunk), labels, strict=True):
            index = y.to(x.device).view(-1, 1, 1).expand(-1, len(points), 1)
            error = _logits(weight, x).log_softmax(dim=2)
            loss -= error.gather(2, index).sum(dim=0, dtype=self.wide).squeeze(1)
            error = error.exp_().scatter_add_(2, index, error.new_full((1, 1, 1), -1.0).expand_as(index))
            gradient[..., :-1] += (error.flatten(1).T @ x).unflatten(0, weight.shape[:2])
            gradient[..., -1] += error.sum(dim=0)
        loss, gradient = self._sum(loss) / self.count, self._sum(gradient) / self.count
        l2, free = self.l2[which], weight[..., :-1].to(self.wide)
        loss += 0.5 * l2 * free.square().sum(dim=(1, 2))
        gradient[..., :-1] += l2.view(-1, 1, 1) * free
        return loss, gradient.flatten(1).to(points.dtype)


def fit_logistic_regression(
    features: Rows | Tensor | np.ndarray,
    labels: Tensor,
    num_classes: int,
    c: float | Sequence[float] = 1.0,
    max_iter: int = 100,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
    distributed: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Fit multinomial logistic regression by L-BFGS (memory 5), on the features' device.

    The objective is scikit-learn's: ``c * sum(cross-entropy) + |W|^2 / 2``, the bias free. All penalties are fitted in
    the same passes over the features, which are kept as they are computed with where they take at most 1 GiB
    (:data:`mmmim.evaluation.probes.rows.HELD`).

    CAPI's setting (arXiv 2502.08769, A) is ``max_iter=1000`` and ``tolerance=1e-12``, with which float32 goes on until
    nothing improves.

    Args:
        features: Features of n samples, ``[n, D]``.
        labels: ``[n]``, int64 in ``[0, num_classes)``.
        num_classes: Number of classes, K.
        c: Inverse strength of the penalty, or P of them.
        max_iter: Iterations of L-BFGS.
        tolerance: Stop when no entry of the gradient (of the objective over ``c * n``) is greater.
        start: Weights to start from, as returned; for several penalties also those of one.
        distributed: Features and labels are this process's part; every process gets the weights of all parts.
        report: Called with the iterations that are done and with ``max_iter``.

    Returns:
        Weights and, in the last column, biases: ``[K, D + 1]``, or ``[P, K, D + 1]`` for several penalties.

    Raises:
        InputError: Features and labels are not equally many, or a penalty is not positive.
    """
    rows = Rows.of(features)
    penalties = [c] if isinstance(c, (int, float)) else list(c)
    if len(rows) != len(labels):
        raise InputError(f'{len(rows)} features have {len(labels)} labels: give one label per row.')
    if not penalties or min(penalties) <= 0:
        raise InputError(f'c={c}: give one or several numbers greater than 0.')
    shape = len(penalties), num_classes, rows.width + 1
    weight = torch.zeros(shape, dtype=rows.dtype, device=rows.device) if start is None else start.expand(shape)
    objective = Objective(rows.held(), labels, num_classes, penalties, distributed)
    found = minimize(objective, weight.flatten(1), max_iter, tolerance, report=report)
    weight = found.points.view(shape)
    return weight[0] if isinstance(c, (int, float)) else weight


def predict(weight: Tensor, features: Rows | Tensor | np.ndarray) -> Tensor:
    """Classes ``[..., m]`` of features ``[m, D]`` from weights ``[..., K, D + 1]``, such as those of P penalties."""
    rows, weights = Rows.of(features), weight.reshape(-1, *weight.shape[-2:])
    chunks = rows.chunks(rows.rows_per_chunk(weights.shape[0] * weights.shape[1]))
    return torch.cat([_logits(weights, x).argmax(dim=2) for x in chunks]).T.reshape(*weight.shape[:-2], len(rows))
