"""Layer-wise adaptive rates, the optimiser of linear probes with large batches."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from mmmim.registry import OPTIMIZERS
from mmmim.utils import InputError
from mmmim.utils.internals import foreach

from .grouped_optimizer import GroupedOptimizer


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
class LARS(GroupedOptimizer):
    """SGD with momentum whose rate is, per tensor, proportional to the norm of weights over that of gradients.

    Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), as the linear probe of PiLaMIM (Lee et al., 2025)
    has it: every tensor has a ratio, biases too, and it multiplies the momentum, not the gradient that enters it. The
    steps never wait for the device.

    With ``scaled='gradient', vectors=False`` it is MAE's (arXiv 2111.06377): the ratio is ``eta |w| / |d|`` of
    ``d = g + weight_decay w``, which enters the momentum scaled; the rate is outside of it, and vectors, the biases,
    neither decay nor have a ratio. (The LARS of timm and mmpretrain divide by ``|g| + weight_decay |w| + eps``, which
    is another number with weight decay; timm's without weight decay and ``always_adapt`` has no ratio at all.)

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, before the ratio of each tensor.
        momentum: Factor of the momentum.
        weight_decay: Factor of the L2 penalty.
        eta: The trust coefficient, a factor of every ratio.
        repeat_first: Whether the first gradient enters the momentum a second time, multiplied by ``momentum``, as in
            the released code of PiLaMIM: the first step is one of ``(1 + momentum) g``.
        scaled: What the ratio multiplies: the ``'momentum'`` or the ``'gradient'`` that enters it.
        vectors: Whether tensors of one dimension decay and have a ratio.

    Raises:
        InputError: A number is negative, or there is no such ``scaled``.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        repeat_first: bool = False,
        scaled: Literal['momentum', 'gradient'] = 'momentum',
        vectors: bool = True,
    ) -> None:
        defaults = {'lr': lr, 'momentum': momentum, 'weight_decay': weight_decay, 'eta': eta}
        for name, value in defaults.items():
            if value < 0:
                raise InputError(f'LARS.{name} must not be negative, got {value}.')
        super().__init__(params, {**defaults, 'repeat_first': repeat_first, 'scaled': scaled, 'vectors': vectors})

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Move matrices, and vectors as ``vectors`` says."""
        plain = [] if group['vectors'] else [p for p in parameters if p.ndim < 2]
        if adapted := [p for p in parameters if group['vectors'] or p.ndim > 1]:
            self._step(group, adapted, adapt=True)
        if plain:
            self._step(group, plain, adapt=False)

    def _step(self, group: dict[str, Any], parameters: list[Tensor], adapt: bool) -> None:
        gradients, decay = [p.grad for p in parameters], group['weight_decay'] if adapt else 0.0
        of_momentum = group['scaled'] == 'momentum'
        rates: list[Any] = [group['lr']] * len(parameters)
        if adapt and of_momentum:
            ratios = self._ratios(parameters, gradients, group['eta'], decay)
            rates = list((group['lr'] * ratios).unbind())
        if decay:
            gradients = foreach('add')(gradients, parameters, alpha=decay)
        if adapt and not of_momentum:
            ratios = self._ratios(parameters, gradients, group['eta'], 0.0)
            gradients = foreach('mul')(gradients, list(ratios.unbind()))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if not self.state[parameter]:
                start = gradient.clone() if group['repeat_first'] else torch.zeros_like(gradient)
                self.state[parameter]['momentum_buffer'] = start
        buffers = [self.state[p]['momentum_buffer'] for p in parameters]
        foreach('mul_')(buffers, group['momentum'])
        foreach('add_')(buffers, gradients)
        foreach('sub_')(parameters, foreach('mul')(buffers, rates))

    @staticmethod
    def _ratios(parameters: list[Tensor], gradients: list[Any], eta: float, weight_decay: float) -> Tensor:
        of_weights, of_gradients = (torch.stack(foreach('norm')(tensors)) for tensors in (parameters, gradients))
        return trust_ratios(of_weights, of_gradients, eta, weight_decay)
