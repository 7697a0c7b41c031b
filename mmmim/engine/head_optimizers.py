"""Optimisers of many heads side by side, each with a rate and a weight decay of its own, and how a sweep gets one."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import Tensor, nn

from mmmim.evaluation.probes.sweep import ProbeSweep
from mmmim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from mmmim.utils import InputError

from .grouped_optimizer import GroupedOptimizer


class HeadOptimizer(GroupedOptimizer):
    """An optimiser of parameters whose first axis is that of G heads.

    Every head moves as one with an optimiser of its own would, but a step has as many operations as one head needs.
    They never wait for the device.

    Args:
        params: Parameters ``[G, ...]`` or groups of them; a group may have ``rates`` and ``decays`` of its own.
        rates: Learning rate of every head, ``[G]``; or one for all.
        decays: Weight decay of every head, ``[G]``; or one for all.
        defaults: What else groups have; ``lr`` among it is a factor of all rates, which schedules change.

    Raises:
        InputError: A parameter has another number of heads.
    """

    def __init__(
        self,
        params: Iterable,
        rates: Sequence[float] | float,
        decays: Sequence[float] | float,
        defaults: Mapping[str, Any],
    ) -> None:
        super().__init__(params, {'rates': rates, 'decays': decays, **defaults})
        for group in self.param_groups:
            heads = {len(p) if p.ndim else 0 for p in group['params']}
            for name in ('rates', 'decays'):
                value = group[name]
                group[name] = list(value) if isinstance(value, Sequence) else [value] * max(heads)
            if len({len(group['rates']), len(group['decays']), *heads}) > 1:
                raise InputError(
                    f'{type(self).__name__}: {len(group["rates"])} rates, {len(group["decays"])} decays and parameters '
                    f'of {sorted({tuple(p.shape) for p in group["params"]})}: the first axis is that of the heads.'
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


@OPTIMIZERS.register_module()
class HeadAdamW(HeadOptimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) of many heads, see :class:`HeadOptimizer`.

    Args:
        params: Parameters ``[G, ...]`` or groups of them; a group may have ``rates`` and ``decays`` of its own.
        rates: Learning rate of every head, ``[G]``; or one for all.
        decays: Weight decay of every head, ``[G]``; or one for all.
        lr: A factor of all rates, which schedules change.
        betas: Decay rates of the moments; CAPI's probes have (0.9, 0.95).
        eps: Is added to the root of the second moment.
    """

    def __init__(
        self,
        params: Iterable,
        rates: Sequence[float] | float = 1.0,
        decays: Sequence[float] | float = 0.0,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, rates, decays, {'lr': lr, 'betas': betas, 'eps': eps})

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


@OPTIMIZERS.register_module()
class HeadSGD(HeadOptimizer):
    """SGD with momentum of many heads, see :class:`HeadOptimizer` (probes of DINOv2, arXiv 2304.07193).

    As torch's: the decay is added to the gradient, and the first gradient is the first momentum.

    Args:
        params: Parameters ``[G, ...]`` or groups of them; a group may have ``rates`` and ``decays`` of its own.
        rates: Learning rate of every head, ``[G]``; or one for all.
        decays: Weight decay of every head, ``[G]``; or one for all.
        lr: A factor of all rates, which schedules change.
        momentum: Factor of the momentum.
    """

    def __init__(
        self,
        params: Iterable,
        rates: Sequence[float] | float = 1.0,
        decays: Sequence[float] | float = 0.0,
        lr: float = 1.0,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(params, rates, decays, {'lr': lr, 'momentum': momentum})

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Move every parameter, all of its heads at once."""
        for parameter in parameters:
            rates, decays = self._settings(group, parameter)
            gradient = parameter.grad.addcmul(parameter, decays) if any(group['decays']) else parameter.grad
            state = self.state[parameter]
            if not state:
                state['momentum_buffer'] = torch.zeros_like(parameter)
            state['momentum_buffer'].mul_(group['momentum']).add_(gradient)
            parameter.addcmul_(state['momentum_buffer'], rates, value=-group['lr'])


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SweepOptimWrapperConstructor:
    """Builds the optimiser of a :class:`mmmim.ProbeSweep`, which knows rates and decays of its heads.

    ``lr`` of the optimiser is a factor of all rates. Biases do not decay (CAPI, arXiv 2502.08769).

    Args:
        optim_wrapper_cfg: ``dict(type='mmengine.OptimWrapper', optimizer=dict(type='mmmim.HeadAdamW', lr=4.0))``.
        paramwise_cfg: None: there is nothing to say that the grid does not.

    Raises:
        InputError: There is a ``paramwise_cfg``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise InputError(
                'optim_wrapper.paramwise_cfg: rates and decays of a sweep are model.head.rates and model.head.decays.'
            )
        self.optim_wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> object:
        """Build the wrapper of the optimiser of ``model`` (with or without a data-parallel wrapper).

        Raises:
            InputError: The head of the model is no sweep.
        """
        head = getattr(getattr(model, 'module', model), 'head', None)
        if not isinstance(head, ProbeSweep):
            raise InputError(
                "optim_wrapper.constructor='mmmim.SweepOptimWrapperConstructor' is for model.head.type="
                f"'mmmim.ProbeSweep', not {type(head).__name__}."
            )
        wrapper = dict(self.optim_wrapper_cfg)
        rates, decays = (list(values) for values in zip(*head.grid, strict=True))
        decaying, free = head.decaying()
        groups = [{'params': decaying, 'decays': decays}, {'params': free, 'decays': 0.0}]
        built = ROOT_OPTIMIZERS.build({**wrapper.pop('optimizer'), 'params': groups, 'rates': rates})
        return OPTIM_WRAPPERS.build(wrapper, default_args={'optimizer': built})
