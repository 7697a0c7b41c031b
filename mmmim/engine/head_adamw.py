"""AdamW for parameters of many heads side by side, each with a rate and a weight decay of its own."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmmim.registry import OPTIMIZERS
from mmmim.utils import InputError

from .grouped_optimizer import GroupedOptimizer


@OPTIMIZERS.register_module()
class HeadAdamW(GroupedOptimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) of parameters whose first axis is that of G heads.

    Every head moves as one with an AdamW of its own would, but a step has as many operations as one head needs. They
    never wait for the device.

    Args:
        params: Parameters ``[G, ...]`` or groups of them; a group may have ``decays`` of its own.
        rates: Learning rate of every head, ``[G]``.
        decays: Weight decay of every head, ``[G]``; or one for all.
        lr: A factor of all rates, which schedules change.
        betas: Decay rates of the moments; CAPI's probes have (0.9, 0.95).
        eps: Is added to the root of the second moment.

    Raises:
        InputError: A parameter has another number of heads.
    """

    def __init__(
        self,
        params: Iterable,
        rates: Sequence[float],
        decays: Sequence[float] | float = 0.0,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        rates = list(rates)
        super().__init__(params, {'lr': lr, 'rates': rates, 'decays': decays, 'betas': betas, 'eps': eps})
        for group in self.param_groups:
            decays = group['decays']
            group['decays'] = list(decays) if isinstance(decays, Sequence) else [decays] * len(rates)
            sizes = {len(rates), len(group['decays']), *(len(p) if p.ndim else 0 for p in group['params'])}
            if len(sizes) > 1:
                raise InputError(
                    f'HeadAdamW: {len(rates)} rates, {len(group["decays"])} decays and parameters of '
                    f'{sorted({tuple(p.shape) for p in group["params"]})}: the first axis is that of the heads.'
                )
        self._on_device: dict[tuple, tuple[Tensor, Tensor]] = {}

    def _settings(self, group: dict[str, Any], like: Tensor) -> tuple[Tensor, Tensor]:
        """Rates and decays ``[G, 1, ...]``; copied to a device once, since a copy waits for it."""
        key = tuple(group['rates']), tuple(group['decays']), like.device, like.dtype
        if key not in self._on_device:
            self._on_device[key] = tuple(like.new_tensor(group[name]) for name in ('rates', 'decays'))
        shape = (-1,) + (1,) * (like.ndim - 1)
        rates, decays = self._on_device[key]
        return rates.view(shape), decays.view(shape)

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Move every parameter, all of its heads at once."""
        for parameter in parameters:
            self._step(group, parameter, parameter.grad)

    def _step(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state, (first, second) = self.state[parameter], group['betas']
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        state['step'] += 1
        rates, decays = self._settings(group, parameter)
        state['exp_avg'].lerp_(gradient, 1 - first)
        state['exp_avg_sq'].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = state['exp_avg_sq'].sqrt().div_((1 - second ** state['step']) ** 0.5).add_(group['eps'])
        if any(group['decays']):
            parameter.mul_(1 - group['lr'] * rates * decays)
        parameter.addcmul_(state['exp_avg'].div(root), rates * (-group['lr'] / (1 - first ** state['step'])))
