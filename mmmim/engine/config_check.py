"""The check of a whole config when it is read: before data sets are listed, models built or folders made.

What parts take stands in their signatures (:mod:`mmmim.utils.options`); here are the walk over a config, and what
belongs to the config as such or to parts of other libraries.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.distributed.algorithms.join import Joinable

from mmmim import registry as R
from mmmim.config.images import check_transforms
from mmmim.engine.config_parts import GROUPS, LOADERS, TOP, attempt, check_loader, check_parts, find_type, try_to_build
from mmmim.engine.config_settings import check_settings
from mmmim.engine.epochs import check_epochs
from mmmim.engine.optim_constructor import RuleOptimWrapperConstructor
from mmmim.engine.schedules import build_schedule
from mmmim.models import MaskedImageModeling
from mmmim.utils import InputError
from mmmim.utils.nested import walk
from mmmim.utils.options import refuse

#: Schedulers that count iterations whatever they are told.
OWN_SCHEDULERS = ('mmmim.ScheduleLR', 'mmmim.ScheduleWeightDecay')


def check_config(cfg: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing, in one sentence that names the key.

    Args:
        cfg: The whole config, mmengine's ``Config`` or a dict, as it will be run.

    Raises:
        InputError: A name, type or value is wrong.
    """
    for path, value in walk(dict(cfg.items())):
        if isinstance(value, float) and math.isnan(value):  # infinities can mean something: without a limit
            raise refuse(path, value, 'a finite number')
    scope = cfg.get('default_scope') or 'mmengine'
    check_settings(cfg)
    check_transforms(cfg)
    if 'max_iters' in (cfg.get('train_cfg') or {}):  # otherwise the runner says how many iterations the epochs are
        check_epochs(cfg['train_cfg'], cfg.get('train_dataloader'))
    for key in LOADERS:
        check_loader(cfg.get(key), key, scope, cfg.get('global_batch_size') if key == 'train_dataloader' else None)
    for key, registry in TOP.items():
        check_parts(cfg.get(key), key, registry, scope, group=key in GROUPS)
    loop = (cfg.get('test_cfg') or {}).get('type')
    kind = None if loop is None else find_type(loop, 'test_cfg.type', R.LOOPS, scope)
    if getattr(kind, '__name__', '') == 'FitTestLoop' and cfg.get('fit_dataloader') is None:
        raise InputError(f'test_cfg.type={loop!r} needs the images to fit on: fit_dataloader=dict(...) in the config.')
    _check_training(cfg, scope)
    _check_model(cfg.get('model'), scope)


def _check_training(cfg: Mapping[str, Any], scope: str) -> None:
    """Optimiser, its wrapper and its schedules, on a parameter that stands for those of the model."""
    wrapper = cfg.get('optim_wrapper')
    if not isinstance(wrapper, Mapping):
        return
    optimizer = wrapper.get('optimizer')
    constructor = wrapper.get('constructor')
    own = constructor == 'mmmim.RuleOptimWrapperConstructor'
    if not isinstance(optimizer, Mapping) or 'type' not in optimizer:
        if constructor is None or own:
            raise InputError("optim_wrapper.optimizer must be a dict with a type, such as dict(type='mmengine.AdamW').")
        return
    if 'constructor' in wrapper:
        find_type(constructor, 'optim_wrapper.constructor', R.OPTIM_WRAPPER_CONSTRUCTORS, scope)
    if own:
        attempt('optim_wrapper', lambda: RuleOptimWrapperConstructor(dict(wrapper), wrapper.get('paramwise_cfg')))
    kind = find_type(optimizer['type'], 'optim_wrapper.optimizer.type', R.OPTIMIZERS, scope)
    if inspect.isclass(kind) and issubclass(
        kind, Joinable
    ):  # ZeRO needs the processes, which do not know of each other
        return
    made = _optimizer(optimizer, scope)
    if wrapper.get('type') == 'mmmim.OptimWrapper':
        options = {k: v for k, v in wrapper.items() if k not in ('optimizer', 'constructor', 'paramwise_cfg')}
        try_to_build('optim_wrapper', options, R.OPTIM_WRAPPERS, scope, default_args={'optimizer': made})
    total = (cfg.get('train_cfg') or {}).get('max_iters')
    if total is not None:  # in epochs, schedulers have a length that is not known yet
        _check_schedules(cfg, total)
        _check_schedulers(cfg.get('param_scheduler'), 'param_scheduler', scope, optimizer, total)


def _check_schedules(cfg: Mapping[str, Any], total: int) -> None:
    """Look at some values of every schedule."""
    for path, node in _schedules(cfg):
        schedule = attempt(path, partial(build_schedule, dict(node)))
        values = {
            step: attempt(path, partial(schedule, step, total)) for step in {0, total // 3, total // 2, total - 1}
        }
        factor = path.startswith('param_scheduler')
        for step, value in values.items():
            if not isinstance(value, int | float):
                raise InputError(
                    f'{path} gives a {type(value).__name__} at step {step} of {total}: a schedule returns a number.'
                )
            where = f'{path} is {value:g} at step {step} of {total}'
            if not math.isfinite(value):
                raise InputError(f'{where}: every value must be finite.')
            if factor and value < 0:
                raise InputError(f'{where}: a factor of the rate must not be negative.')
            if path.endswith('.momentum') and not -1e-9 <= value <= 1 + 1e-9:
                raise InputError(f'{where}: a momentum must be from 0 to 1.')
        if factor and total > 3 and not any(values.values()):
            raise InputError(f'{path} is 0 at every step: nothing would be learned.')


def _check_schedulers(node: Any, path: str, scope: str, optimizer: Mapping, total: int) -> None:
    """Make schedulers of iterations, on an optimiser of their own."""
    if isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            _check_schedulers(child, f'{path}.{index}', scope, optimizer, total)
    elif isinstance(node, Mapping) and 'type' not in node:
        for name, child in node.items():
            _check_schedulers(child, f'{path}.{name}', scope, optimizer, total)
    elif isinstance(node, Mapping) and (node['type'] in OWN_SCHEDULERS or not node.get('by_epoch', True)):
        made = _optimizer(optimizer, scope)
        default = {'optimizer': made, 'end': total}
        try_to_build(path, node, R.PARAM_SCHEDULERS, scope, default_args=default)


def _optimizer(optimizer: Mapping, scope: str) -> Any:
    """An optimiser of one parameter, which stands for those of the model."""
    parameters = [torch.nn.Parameter(torch.zeros(2, 2))]
    return try_to_build('optim_wrapper.optimizer', optimizer, R.OPTIMIZERS, scope, default_args={'params': parameters})


def _schedules(cfg: Mapping[str, Any]) -> list[tuple[str, Mapping]]:
    """The schedules of schedulers and hooks, by their paths."""
    parts = {key: cfg.get(key) for key in ('param_scheduler', 'default_hooks', 'custom_hooks')}
    return [
        (path, node)
        for path, node in walk(parts)
        if path.rpartition('.')[2] in ('schedule', 'momentum') and isinstance(node, Mapping) and 'type' in node
    ]


def _check_model(model: Any, scope: str) -> None:
    """Make a model of mmmim without memory and weights: parts refuse sizes that contradict each other."""
    if not isinstance(model, Mapping):
        return
    kind = find_type(model['type'], 'model.type', R.MODELS, scope) if 'type' in model else None
    if not (inspect.isclass(kind) and issubclass(kind, MaskedImageModeling)):
        return
    try:
        with torch.device('meta'), R.MODELS.switch_scope_and_registry(scope) as searched:
            searched.build(copy.deepcopy(dict(model)))
    except InputError as error:
        message = str(error)
        raise InputError(message if 'model' in message else f'model: {message}') from None
    except Exception:
        # Parts of projects need not know of a device without memory; the runner makes the model in earnest.
        return
