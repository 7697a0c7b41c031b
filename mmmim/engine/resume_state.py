"""The state of a training in a checkpoint, looked at before any of it is used.

Torch gives optimisers whatever moments a file holds, and the fused ones read and write memory by the shapes of the
parameters.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmmim.checkpoints.state_dict import is_finite, stays_finite, tensor_complaint
from mmmim.utils import InputError
from mmmim.utils.names import printable
from mmmim.utils.nested import walk

#: Where a parameter scheduler is, in its state; the rest says which schedule it is.
_POSITION = ('last_step', 'verbose', 'best', 'rule_worse', 'num_bad_epochs', 'cooldown_counter')


def check_resumable(checkpoint: Mapping[str, Any], needed: Sequence[str], file: str) -> None:
    """Refuse checkpoints that no training can have saved.

    Args:
        checkpoint: Content of the checkpoint, unchanged.
        needed: Keys that it must have.
        file: Name of the file, for messages.

    Raises:
        InputError: A key is missing or is something else than what a training saves there.
    """
    if missing := [key for key in needed if key not in checkpoint]:
        raise InputError(
            f'{file} cannot be resumed: it holds no {", ".join(missing)}. To start a new training from its weights, '
            'set load_from instead.'
        )
    meta, hub = checkpoint['meta'], checkpoint['message_hub']
    wrong = '' if isinstance(meta, Mapping) else f'meta is a {type(meta).__name__}'
    if not wrong:
        counts = {key: meta.get(key) for key in ('epoch', 'iter')}
        counts |= {key: meta[key] for key in ('world_size', 'global_batch_size') if key in meta}
        counts |= {'seed': meta['seed']} if meta.get('seed') is not None else {}
        bad = [key for key, value in counts.items() if not _is_count(value)]
        wrong = f'meta.{bad[0]} is {counts[bad[0]]!r}' if bad else ''
    parts = ('log_scalars', 'runtime_info', 'resumed_keys')
    if not wrong and not (isinstance(hub, Mapping) and all(isinstance(hub.get(part), Mapping) for part in parts)):
        wrong = f'message_hub has no {", ".join(parts)}'
    if not wrong and not all(isinstance(key, str) for part in parts for key in hub[part]):
        wrong = f'message_hub has keys in {", ".join(parts)} that are no texts'
    info = checkpoint.get('mmmim')
    if not wrong and info is not None and not isinstance(info, Mapping):
        wrong = f'mmmim is a {type(info).__name__}'
    if not wrong and isinstance(info, Mapping) and not isinstance(info.get('config', {}), Mapping | None):
        wrong = f'mmmim.config is a {type(info["config"]).__name__}'
    if not wrong and 'global_batch_size' in meta and 'world_size' not in meta:
        wrong = 'meta has a global_batch_size and no world_size'
    if not wrong and not all(isinstance(value, bool) for value in hub['resumed_keys'].values()):
        wrong = 'message_hub.resumed_keys holds something else than True and False'
    described = (
        {} if wrong else {'meta.dataset_meta': meta.get('dataset_meta'), 'mmmim.config': (info or {}).get('config')}
    )
    for key, value in described.items():
        if _holds_tensor(value):
            wrong = f'{key} holds a tensor'
    if wrong:
        raise _damaged(file, wrong)


def _holds_tensor(node: Any) -> bool:
    """Whether a description holds a tensor, which equals or differs value by value."""
    return any(isinstance(value, Tensor) for _, value in walk([node]))


def parameters_without_state(state: Mapping[str, Any]) -> list[int]:
    """Numbers of the parameters that an optimiser has no state of, because they have never had a gradient."""
    numbers = [number for group in state['param_groups'] for number in group['params']]
    return [number for number in numbers if number not in state['state']]


def check_optimizer(
    state: Any, optimizer: Optimizer, model: nn.Module, without_state: Sequence[int] | None, file: str
) -> None:
    """Compare the saved state of an optimiser with the parameters that it is for.

    Args:
        state: Saved state of the optimiser, which its ``state_dict()`` gave.
        optimizer: The optimiser that takes it.
        model: The model that has these parameters, for their names.
        without_state: Numbers of the parameters that had no state when it was saved, see
            :func:`parameters_without_state`; None where that is not known.
        file: Name of the file, for messages.

    Raises:
        InputError: Naming the parameter: its state is missing, or has another shape, another kind of numbers, or values
            that are not finite.
    """
    if not isinstance(state, Mapping) or not isinstance(state.get('state'), Mapping):
        raise _damaged(file, 'optimizer has no state')
    groups = state.get('param_groups')
    if not isinstance(groups, list) or not all(_is_group(group) for group in groups):
        raise _damaged(file, 'optimizer.param_groups is no list of groups with parameters and a rate')
    base = state.get('base_param_settings')
    if base is not None and not (isinstance(base, Mapping) and _is_rate(base.get('lr'))):
        raise _damaged(file, 'optimizer.base_param_settings has no rate')
    own = [group['params'] for group in optimizer.param_groups]
    sizes = [len(group['params']) for group in groups]
    if sizes != [len(group) for group in own]:
        raise InputError(
            f'{file} cannot be resumed: its optimiser or schedulers differ from the config (groups of {sizes} '
            f'parameters, of {[len(group) for group in own]} in the config). Restore the config, or start a new '
            'training from its weights with load_from.'
        )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    numbers = [number for group in groups for number in group['params']]
    parameters = [parameter for group in own for parameter in group]
    if len(set(numbers)) < len(numbers) or not set(state['state']) <= set(numbers):
        raise _damaged(file, 'optimizer.state is not of the parameters in optimizer.param_groups')
    expected = _expected_keys(optimizer, parameters)
    for number, parameter in zip(numbers, parameters, strict=True):
        name = names.get(id(parameter), f'parameter {number}')
        saved = state['state'].get(number)
        if saved is None:
            if without_state is not None and number not in without_state and state['state']:
                raise _damaged(file, f'the optimiser has no state of {name}')
            continue
        if not isinstance(saved, Mapping):
            raise _damaged(file, f'the state of {name} is a {type(saved).__name__}')
        if missing := [key for key in expected if key not in saved]:
            raise _damaged(file, f'the state of {name} has no {missing[0]}, which {type(optimizer).__name__} needs')
        for key, value in saved.items():
            if complaint := _complaint(key, value, parameter, key in expected):
                raise _damaged(file, f'{key} of {name} {complaint}')


def _complaint(key: str, value: Any, parameter: Tensor, expected: bool) -> str | None:
    """What is wrong with a value of the state of a parameter; a step, or as many numbers as the parameter has."""
    if value is None and not expected:
        return None
    if not isinstance(value, Tensor):
        if isinstance(value, bool | int | float) and (key == 'step' or not expected):
            return None if math.isfinite(value) and (key != 'step' or value >= 0) else f'is {value}'
        return f'is a {type(value).__name__}' if expected else None
    if (layout := tensor_complaint(value)) is not None or value.is_meta:
        return layout or 'has no values'
    if value.is_complex() != parameter.is_complex() or (key != 'step' and not value.is_floating_point()):
        return f'holds {value.dtype}'
    if not is_finite(value) or not stays_finite(value, parameter):
        return f'holds NaN or infinite values, or such as are too large for {parameter.dtype}'
    if key == 'step':
        return None if value.numel() == 1 and value.item() >= 0 else f'is {value.flatten()[:3].tolist()}'
    if key in ('exp_avg_sq', 'max_exp_avg_sq', 'square_avg') and value.numel() and value.min() < 0:
        return 'holds negative values'
    if expected and value.shape != parameter.shape:
        return f'has the shape {list(value.shape)}, the parameter has {list(parameter.shape)}'
    return None


def _expected_keys(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[str]:
    """Names of an optimiser's steps and of what it keeps in a parameter's shape, found out by a step of another one."""
    if not parameters:
        return []
    probe = torch.zeros(2, 3, device=parameters[0].device, requires_grad=True)
    probe.grad = torch.zeros_like(probe)
    reference = None
    with suppress(Exception):  # of optimisers whose settings are not their arguments nothing is expected
        known = inspect.signature(type(optimizer)).parameters
        settings = {key: value for key, value in optimizer.defaults.items() if key in known}
        reference = type(optimizer)([probe], **settings)
        reference.step()
    state = {} if reference is None else reference.state[probe]
    return [key for key, value in state.items() if key == 'step' or getattr(value, 'shape', None) == probe.shape]


def check_scheduler(state: Any, scheduler: Any, file: str) -> None:
    """Compare the saved state of a parameter scheduler with one of the same config.

    Args:
        state: Saved state of the scheduler, which its ``state_dict()`` gave.
        scheduler: The scheduler that takes it.
        file: Name of the file, for messages.

    Raises:
        InputError: It has keys that the scheduler has not, or values of another kind.
    """
    own = scheduler.state_dict()
    name = type(scheduler).__name__
    if not isinstance(state, Mapping):
        raise _damaged(file, f'param_schedulers holds a {type(state).__name__} for {name}')
    for key, value in state.items():
        if key not in own or not _is_like(value, own[key]):
            raise _damaged(file, f'param_schedulers has {key}={value!r:.60} for {name}')
    if missing := [key for key in own if key not in state]:
        raise _damaged(file, f'param_schedulers has no {missing[0]} for {name}')


def kept_settings(state: Mapping[str, Any], scheduler: Any) -> str:
    """Settings of a scheduler that its saved state replaces, as schedulers of mmengine and torch do; empty if none.

    Such a scheduler goes on as it was saved: one that ended stays at its last value, however long the training is now.

    Args:
        state: Saved state of the scheduler, checked by :func:`check_scheduler`.
        scheduler: The scheduler of the config, before it takes the state.
    """
    own = scheduler.state_dict()
    settings = [key for key in own if not key.startswith('_') and key not in _POSITION and key in state]
    changed = [key for key in settings if _numbers(state[key]) != _numbers(own[key])]
    return printable(', '.join(f'{key} {state[key]!r:.60} instead of {own[key]!r:.60}' for key in changed))


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list | tuple) else [value]
    return [float(each) for each in values if isinstance(each, int | float)]


def _is_like(value: Any, own: Any) -> bool:
    if own is None or value is None:
        return True
    if isinstance(own, bool | str):
        return isinstance(value, type(own))
    if isinstance(own, int | float):
        return isinstance(value, int | float) and math.isfinite(value)
    if isinstance(own, list | tuple):
        same = isinstance(value, list | tuple) and (len(value) == len(own) or not own)
        return same and all(_is_like(each, own[0]) for each in value) if own else same
    return isinstance(value, Mapping) if isinstance(own, Mapping) else True


def _is_group(group: Any) -> bool:
    if not isinstance(group, Mapping) or not isinstance(group.get('params'), list):
        return False
    return all(isinstance(number, int) for number in group['params']) and _is_rate(group.get('lr'))


def _is_rate(value: Any) -> bool:
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_meta or not value.is_floating_point():
            return False
        value = value.item()
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32


def _damaged(file: str, what: str) -> InputError:
    return InputError(
        f'{file} cannot be resumed: {printable(what)}. It is damaged, or was not saved by this training: use an '
        'earlier checkpoint, or start a new training from its weights with load_from.'
    )
