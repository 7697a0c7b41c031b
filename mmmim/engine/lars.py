"""Layer-wise adaptive rates, the optimiser of linear probes with large batches."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmmim.registry import OPTIMIZERS
from mmmim.utils import InputError
from mmmim.utils.internals import foreach


def trust_ratios(weights: Tensor, gradients: Tensor, eta: float, weight_decay: float) -> Tensor:
    """``eta |w| / (|g| + weight_decay |w|)``, and 1 where one of the two norms is zero.

    Args:
        weights: Norms of tensors, ``[P]``.
        gradients: Norms of their gradients, ``[P]``.
        eta: The trust coefficient.
        weight_decay: L2 penalty of the weights.

    Returns:
        ``[P]``.
    """
    ratios = eta * weights / (gradients + weight_decay * weights)
    return torch.where(weights * gradients > 0, ratios, torch.ones_like(ratios))


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """SGD with momentum whose rate is, per tensor, proportional to the norm of weights over that of gradients.

    Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), as the linear probe of PiLaMIM (Lee et al., 2025)
    has it: every tensor has a ratio, biases too, and it multiplies the momentum, not the gradient that enters it. (In
    mmpretrain's LARS, and MAE's, the gradient is scaled before it enters.) The steps never wait for the device.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, before the ratio of each tensor.
        momentum: Factor of the momentum.
        weight_decay: Factor of the L2 penalty.
        eta: The trust coefficient, a factor of every ratio.
        repeat_first: Whether the first gradient enters the momentum a second time, multiplied by ``momentum``, as in
            the released code of PiLaMIM: the first step is one of ``(1 + momentum) g``.

    Raises:
        InputError: A number is negative.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        repeat_first: bool = False,
    ) -> None:
        defaults = {'lr': lr, 'momentum': momentum, 'weight_decay': weight_decay, 'eta': eta}
        for name, value in defaults.items():
            if value < 0:
                raise InputError(f'LARS.{name} must not be negative, got {value}.')
        super().__init__(params, {**defaults, 'repeat_first': repeat_first})

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
            parameters = [p for p in group['params'] if p.grad is not None]
            if parameters:
                self._step(group, parameters)
        return loss

    def _step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        of_weights, of_gradients = (torch.stack(foreach('norm')(tensors)) for tensors in (parameters, gradients))
        rates = group['lr'] * trust_ratios(of_weights, of_gradients, group['eta'], group['weight_decay'])
        if group['weight_decay']:
            gradients = foreach('add')(gradients, parameters, alpha=group['weight_decay'])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if not self.state[parameter]:
                start = gradient.clone() if group['repeat_first'] else torch.zeros_like(gradient)
                self.state[parameter]['momentum_buffer'] = start
        buffers = [self.state[p]['momentum_buffer'] for p in parameters]
        foreach('mul_')(buffers, group['momentum'])
        foreach('add_')(buffers, gradients)
        foreach('sub_')(parameters, foreach('mul')(buffers, list(rates.unbind())))
