"""L-BFGS for several smooth convex problems side by side, whose objectives cost a pass over the same data."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmmim.utils.precision import widest_float

#: Constants of the Wolfe conditions (Nocedal and Wright 2006, section 3.1).
DECREASE, CURVATURE = 1e-4, 0.9
#: Steps that are tried along a direction: the limit of line searches in CAPI's released evaluation.
TRIALS = 50
#: The loss must have fallen by more than rounding over so many iterations.
PATIENCE = 10

#: From points ``[A, n]`` and the problems that they belong to, ``[A]``, to losses ``[A]`` and gradients ``[A, n]``.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class Minimum:
    """What was found for P problems.

    Attributes:
        points: The minimum of every problem, ``[P, n]``.
        losses: At these, ``[P]``, float64.
        iterations: Number of iterations of every problem, ``[P]``.
        evaluations: How often the objective was evaluated.
    """

    points: Tensor
    losses: Tensor
    iterations: Tensor
    evaluations: int


def minimize(
    objective: Objective,
    start: Tensor,
    max_iter: int = 100,
    tolerance: float = 1e-5,
    memory: int = 5,
    report: Callable[[int, int], None] | None = None,
) -> Minimum:
    """Minimise P smooth convex functions by L-BFGS (Liu and Nocedal 1989).

    Every evaluation of the objective tries one point of each problem. A problem whose step is accepted goes on to its
    next iteration while others still look for their step, so none waits; a finished one costs nothing any more.

    A problem is finished after ``max_iter`` iterations, when no entry of its gradient is greater than the tolerance, or
    when its loss falls no more in the precision of its numbers: not by more than rounding in 10 iterations, or with no
    step along the negative gradient.

    Args:
        objective: Losses and gradients of points, see :data:`Objective`; losses best in float64.
        start: Points to start from, ``[P, n]``.
        max_iter: Most iterations of a problem.
        tolerance: A problem is finished when no entry of its gradient is greater.
        memory: Steps that the approximate Hessian remembers.
        report: Called after every evaluation with the iterations of the slowest problem, ``max_iter`` once all are
            finished, and ``max_iter``.

    Returns:
        Points, losses and counts.
    """
    problems = [_Problem(point, max_iter, tolerance, memory) for point in start]
    evaluations = 0
    while active := [i for i, problem in enumerate(problems) if not problem.finished]:
        points = torch.stack([problems[i].trial for i in active])
        losses, gradients = objective(points, torch.tensor(active, device=start.device))
        for i, loss, gradient in zip(active, losses.tolist(), gradients, strict=True):
            problems[i].update(loss, gradient)
        evaluations += 1
        if report is not None:
            report(min([p.iterations for p in problems if not p.finished], default=max_iter), max_iter)
    return Minimum(
        points=torch.stack([problem.point for problem in problems]),
        losses=torch.tensor(
            [problem.loss for problem in problems], dtype=widest_float(start.device), device=start.device
        ),
        iterations=torch.tensor([problem.iterations for problem in problems], device=start.device),
        evaluations=evaluations,
    )


class _Problem:
    """One problem: proposes a ``trial`` and is told its loss and gradient."""

    def __init__(self, start: Tensor, max_iter: int, tolerance: float, memory: int) -> None:
        self.max_iter, self.tolerance = max_iter, tolerance
        self.point = self.trial = start.clone()
        self.loss, self.gradient = math.inf, torch.zeros_like(start)
        self.direction: Tensor | None = None
        self.pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=memory)
        self.losses: deque[float] = deque(maxlen=PATIENCE + 1)
        self.iterations, self.finished = 0, False
        # Of the search along the direction: steps and their slopes, the last two too short ones and one too long.
        self.step = self.slope = 0.0
        self.before = self.low = self.high = 0.0, 0.0
        self.trials = 0
        self.precision = torch.finfo(start.dtype).eps

    def update(self, loss: float, gradient: Tensor) -> None:
        """Take the trial or look for another step."""
        if self.direction is None:
            self._accept(loss, gradient)
            return
        slope = _dot(gradient, self.direction)
        if not self._low_enough(loss, slope):
            self.high = self.step, slope if math.isfinite(loss) else math.inf
        elif slope < CURVATURE * self.slope:
            self.before, self.low = self.low, (self.step, slope)
        else:
            self.iterations += 1
            move, change = self.trial - self.point, gradient - self.gradient
            curvature = _dot(move, change)
            # Positive by the conditions on the step, but for rounding.
            if curvature > self.precision * float(move.norm() * change.norm()):
                self.pairs.append((move, change, curvature))
            self._accept(loss, gradient)
            return
        self.trials += 1
        if self.trials == TRIALS:
            self._give_up()
        else:
            self._try(self._next_step())

    def _low_enough(self, loss: float, slope: float) -> bool:
        """Whether the loss decreases sufficiently.

        Where the loss has reached its rounding error, the slope says it better: the approximate Wolfe condition of
        Hager and Zhang (2005, equation 4.1).
        """
        if not (math.isfinite(loss) and math.isfinite(slope)):
            return False
        if loss <= self.loss + DECREASE * self.step * self.slope:
            return True
        return loss <= self.loss + self.precision * abs(self.loss) and slope <= (2 * DECREASE - 1) * self.slope

    def _next_step(self) -> float:
        """A step between those that are too short and too long: where the slopes let expect a slope of 0.

        The slope of a convex function grows with the step, so the interval always holds one that is accepted (Lewis and
        Overton 2013); it shrinks by a tenth at least.
        """
        (low, low_slope), (high, high_slope) = self.low, self.high
        if math.isinf(high):
            previous, previous_slope = self.before
            growth = low_slope - previous_slope
            guess = low - low_slope * (low - previous) / growth if growth > 0 else math.inf
            return min(max(guess, 2 * low), 10 * low)
        width, share = high - low, 0.5
        if math.isfinite(high_slope) and high_slope > low_slope:
            share = min(max(-low_slope / (high_slope - low_slope), 0.1), 0.9)
        return low + share * width

    def _accept(self, loss: float, gradient: Tensor) -> None:
        self.point, self.loss, self.gradient = self.trial, loss, gradient.clone()
        self.losses.append(loss)
        fell = len(self.losses) <= PATIENCE or self.losses[0] - loss > self.precision * abs(loss)
        steep = float(gradient.abs().amax()) > self.tolerance
        if not (fell and steep and math.isfinite(loss)) or self.iterations >= self.max_iter:
            self.finished = True
        else:
            self._turn()

    def _give_up(self) -> None:
        """No step along the direction: without its history once more, then no more."""
        if self.pairs:
            self.pairs.clear()
            self._turn()
        else:
            self.finished = True

    def _turn(self) -> None:
        """Set out in a new direction."""
        self.direction = -self._newton(self.gradient)
        self.slope = _dot(self.gradient, self.direction)
        if not self.slope < 0 and self.pairs:  # rounding
            self.pairs.clear()
            self.direction, self.slope = -self.gradient, -_dot(self.gradient, self.gradient)
        self.low = 0.0, self.slope
        self.high = math.inf, math.inf
        self.trials = 0
        # Before anything is known of the curvature, at most as far as 1.
        self._try(1.0 if self.pairs else min(1.0, 1 / float(self.direction.norm())))

    def _try(self, step: float) -> None:
        assert self.direction is not None
        self.step = step
        self.trial = self.point + step * self.direction

    def _newton(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian's product with a gradient, by the two-loop recursion (Nocedal 1980)."""
        vector, alphas = gradient.clone(), []
        for move, change, curvature in reversed(self.pairs):
            alphas.append(_dot(move, vector) / curvature)
            vector.sub_(change, alpha=alphas[-1])
        if self.pairs:
            _, change, curvature = self.pairs[-1]
            vector *= curvature / _dot(change, change)
        for (move, change, curvature), alpha in zip(self.pairs, reversed(alphas), strict=True):
            vector.add_(move, alpha=alpha - _dot(change, vector) / curvature)
        return vector


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum(dtype=widest_float(a.device)))
