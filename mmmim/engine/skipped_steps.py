"""Counts the steps of a training that teach nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Share of the steps of a logging interval that are lost above which a warning says so.
MANY = 0.5


@dataclass
class SkippedSteps:
    """How many steps in a row, up to now, have been lost.

    A step is lost if the optimiser says that it skipped it (``skipped``, of :class:`mmmim.engine.OptimWrapper`); where
    it does not say (wrappers of mmengine), if a loss is not finite.

    With float16 the first steps are lost by design: gradients overflow until the loss scale, which every such step
    halves, is low enough. While losses are finite and the scale is above 1 a lost step is therefore counted apart;
    there are at most a few of them, since scales halve. Of wrappers that scale losses and do not say what they skip
    (those of mmengine) the scale itself tells, see :meth:`follow_scale`.

    Attributes:
        in_row: Lost steps in a row.
        warm_up: Steps among the last ones in a row that only looked for a loss scale.
        steps: Steps since the last call of :meth:`interval`.
        lost: Lost ones among them, without those that looked for a loss scale.
    """

    in_row: int = 0
    warm_up: int = 0
    steps: int = 0
    lost: int = 0
    _scale: float | None = None
    _halved: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Take a step into account.

        Args:
            values: What it logs: ``loss`` and others, ``skipped`` and ``loss_scale`` where there are.
        """
        finite = all(math.isfinite(value) for key, value in values.items() if 'loss' in key)
        skipped = bool(values['skipped']) if 'skipped' in values else not finite
        self.steps += 1
        if not skipped:
            self.in_row = self.warm_up = 0
        elif 'skipped' in values and finite and values.get('loss_scale', 1.0) > 1:
            self.warm_up += 1
        else:
            self.in_row += 1
            self.lost += 1

    def follow_scale(self, scale: float) -> None:
        """Take the loss scale at the end of an interval into account: steps that all halved it were all skipped."""
        before, self._scale = self._scale, scale
        skipped_all = before is not None and self.steps > 0 and scale <= before / 2.0**self.steps
        self._halved = self._halved + self.steps if skipped_all else 0
        if scale <= 1 and self._halved > self.in_row:
            self.in_row = self._halved
            self.lost = max(self.lost, self.steps)

    @property
    def all_in_row(self) -> int:
        """Lost steps in a row, whatever lost them."""
        return self.in_row + self.warm_up

    def interval(self) -> str | None:
        """Start the next logging interval; a warning if many steps of the last one were lost."""
        steps, lost, self.steps, self.lost = self.steps, self.lost, 0, 0
        if not steps or lost < MANY * steps:
            return None
        return (
            f'{lost} of the last {steps} steps were lost: a gradient or a loss was not finite, so nothing was learned '
            f'from them ({self.all_in_row} in a row so far).'
        )
