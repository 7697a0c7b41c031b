"""What optimisers have in common that move one group of parameters at a time."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class GroupedOptimizer(Optimizer):
    """An optimiser whose step takes its groups one after the other; a subclass says how it moves one."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: Computes the loss once more.

        Returns:
            What the closure does.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.step_group(group, [p for p in group['params'] if p.grad is not None])
        return loss

    @abstractmethod
    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Move the parameters of a group that have a gradient."""
