"""Linear probes on frozen features that are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mmmim.utils.precision import with_float64

from .logistic_regression import fit_logistic_regression, predict
from .rows import Standardizer
from .selection import first_best


class LinearProbe:
    """Logistic regression on standardised features, fitted with each of several penalties.

    Until :meth:`choose`, the first penalty counts.

    Args:
        features: Features of the samples to learn on, ``[n, D]``; their means and deviations standardise all others.
        labels: Classes of these samples, ``[n]``, int64 in ``[0, num_classes)``.
        num_classes: Number of classes, K.
        penalties: Inverse strengths of the L2 penalty.
        max_iter: Iterations of L-BFGS.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, num_classes: int, penalties: Sequence[float], max_iter: int
    ) -> None:
        self.scale = Standardizer(features)
        self.weights = fit_logistic_regression(self.scale(features), labels, num_classes, penalties, max_iter)
        self.weight = self.weights[0]

    def choose(self, features: Tensor, score: Callable[[Tensor], float]) -> None:
        """Keep the penalty whose predictions on held-out features ``[m, D]`` score best, the first of several."""
        predictions = predict(self.weights, self.scale(features))
        self.weight = self.weights[first_best([score(each) for each in predictions])]

    def predict(self, features: Tensor) -> Tensor:
        """Classes ``[m]`` of features ``[m, D]``."""
        return predict(self.weight, self.scale(features))


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of correct classes."""
    return float(with_float64(predicted == labels).double().mean())
