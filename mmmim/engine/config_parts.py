"""Parts of a config: looked up, and compared with what their classes take."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from mmengine.registry import Registry
from torch.utils.data import DataLoader

from mmmim import registry as R
from mmmim.datasets.image_stream import is_stream
from mmmim.engine.schedules import refuse_short
from mmmim.utils import InputError
from mmmim.utils.options import (
    HOSTS,
    Count,
    Natural,
    NonNegative,
    OptionsOf,
    Positive,
    PositiveRange,
    Range,
    ShareBelowOne,
    check_names,
    check_options,
    check_value,
    is_placeholder,
    parameters_of,
    refuse,
)

#: What the parts at the top of a config are looked up in.
TOP: dict[str, Registry] = {
    'model': R.MODELS,
    'data_preprocessor': R.MODELS,
    'optim_wrapper': R.OPTIM_WRAPPERS,
    'param_scheduler': R.PARAM_SCHEDULERS,
    'train_cfg': R.LOOPS,
    'val_cfg': R.LOOPS,
    'test_cfg': R.LOOPS,
    'val_evaluator': R.METRICS,
    'test_evaluator': R.METRICS,
    'default_hooks': R.HOOKS,
    'custom_hooks': R.HOOKS,
    'visualizer': R.VISUALIZERS,
    'log_processor': R.LOG_PROCESSORS,
    'probe_data': R.DATASETS,
    'model_wrapper_cfg': R.MODEL_WRAPPERS,
}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'fit_dataloader')
#: Dicts that hold parts, or lists of them, by name.
GROUPS = ('param_scheduler', 'default_hooks', 'probe_data')

#: By what a part is looked up in: what the parts inside it are looked up in, by key. Of models: every other key too.
_INSIDE: dict[str, dict[str, Registry]] = {
    'loader': {
        'dataset': R.DATASETS,
        'sampler': R.DATA_SAMPLERS,
        'collate_fn': R.FUNCTIONS,
        'worker_init_fn': R.FUNCTIONS,
    },
    R.DATASETS.name: {'dataset': R.DATASETS, 'datasets': R.DATASETS, 'pipeline': R.TRANSFORMS},
    R.TRANSFORMS.name: {'transforms': R.TRANSFORMS},
    R.FUNCTIONS.name: {'masking': R.MASKINGS},
    R.OPTIM_WRAPPERS.name: {'optimizer': R.OPTIMIZERS},
    R.PARAM_SCHEDULERS.name: {'schedule': R.SCHEDULES},
    R.HOOKS.name: {'schedule': R.SCHEDULES, 'momentum': R.SCHEDULES},
    R.LOOPS.name: {'probe': R.PROBES},
    R.VISUALIZERS.name: {'vis_backends': R.VISBACKENDS},
}

#: Arguments that no config gives, by what a part is looked up in, and keys that are none of its arguments.
_GIVEN: dict[str, tuple[str, ...]] = {
    R.LOOPS.name: ('runner', 'dataloader', 'evaluator'),
    R.DATA_SAMPLERS.name: ('dataset', 'sampler'),
    R.FUNCTIONS.name: ('samples',),
    R.SCHEDULES.name: ('step', 'total', 'first'),
    R.OPTIMIZERS.name: ('params',),
    R.OPTIM_WRAPPERS.name: ('optimizer', 'constructor', 'paramwise_cfg'),
    R.PARAM_SCHEDULERS.name: ('optimizer', 'end', 'convert_to_iter_based', 'epoch_length'),
    R.HOOKS.name: ('priority',),
    R.VISUALIZERS.name: ('name',),
    R.VISBACKENDS.name: ('save_dir',),
    R.MODEL_WRAPPERS.name: ('module',),
    R.MODELS.name: ('shapes',),
}

#: Ranges of arguments of other libraries, which their signatures do not tell.
_HOST_RANGES: dict[str, dict[str, Any]] = {
    'loader': {
        'num_workers': Natural,
        'batch_size': Count | None,
        'prefetch_factor': Count | None,
        'num_batch_per_epoch': Count | None,
        'timeout': NonNegative,
        'persistent_workers': bool,
        'pin_memory': bool,
        'drop_last': bool,
    },
    R.LOOPS.name: {
        'max_iters': Count,
        'max_epochs': Count,
        'val_interval': Count,
        'val_begin': Natural,
    },
    R.HOOKS.name: {
        'interval': Count,
        'max_keep_ckpts': Annotated[int, Range(-1)],
        'save_begin': Natural,
        'by_epoch': bool,
        'log_metric_by_epoch': bool,
    },
    R.LOG_PROCESSORS.name: {'window_size': Count, 'by_epoch': bool},
    R.TRANSFORMS.name: {'crop_ratio_range': PositiveRange, 'aspect_ratio_range': PositiveRange},
    R.OPTIMIZERS.name: {
        'lr': Positive,
        'weight_decay': NonNegative,
        'betas': tuple[ShareBelowOne, ...],
        'eps': Positive | tuple,
        'momentum': ShareBelowOne,
        'fused': bool | None,
        'foreach': bool | None,
    },
    R.PARAM_SCHEDULERS.name: {'begin': Natural, 'T_max': Count | None},
    # -1: encoders of mmpretrain without classes.
    R.MODELS.name: {'num_classes': Annotated[int, Range(-1)] | None, 'channels': Count | tuple | None},
}


def check_loader(loader: Any, key: str, scope: str, batch: int | None = None) -> None:
    """Check a data loader of a config, and what is in it.

    Raises:
        InputError: Naming the key.
    """
    if loader is None or isinstance(loader, DataLoader):
        return
    check_value(key, loader, dict)
    known, _ = parameters_of(DataLoader)
    more = ('num_batch_per_epoch', 'worker_init_fn', 'disable_subprocess_warning')
    check_names(key, loader, [name for name in (*known, *more) if not name.startswith('_')], 'A data loader')
    if loader.get('batch_size') is None and loader.get('batch_sampler') is None and not batch:
        raise InputError(f'{key} has no batch size: set {key}.batch_size.')
    if loader.get('dataset') is None:
        raise InputError(f'{key} has no data set: set {key}.dataset.')
    _check_ranges(loader, key, 'loader')
    for name, registry in _INSIDE['loader'].items():
        check_parts(loader.get(name), f'{key}.{name}', registry, scope)
    if isinstance(batches := loader.get('batch_sampler'), Mapping):
        check_parts(batches, f'{key}.batch_sampler', R.DATA_SAMPLERS, scope, complete=False)
    dataset = loader['dataset']
    if key == 'train_dataloader' and isinstance(dataset, Mapping):
        ordered = loader.get('sampler') is None and loader.get('batch_sampler') is None
        if ordered and not loader.get('shuffle') and not is_stream(dataset):
            raise InputError(
                f'{key}.sampler is None: every epoch would have the images in the order of the files; set '
                f"{key}.sampler to dict(type='mmmim.PositionSampler')."
            )


def check_parts(
    node: Any, key: str, registry: Registry, scope: str, group: bool = False, complete: bool = True
) -> None:
    """Check a part of a config, and the parts inside it."""
    if isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            check_parts(child, f'{key}.{index}', registry, scope)
        return
    if not isinstance(node, Mapping):
        # A number is a schedule; lists of models hold other things too.
        parts_only = registry not in (R.SCHEDULES, R.MODELS) or key in TOP
        if isinstance(node, (str, int, float)) and parts_only:
            raise refuse(key, node, 'a dict with a type, or None')
        return
    if group and 'type' not in node:
        for name, child in node.items():
            if child is not None and not isinstance(child, (Mapping, list, tuple)) and not callable(child):
                raise refuse(f'{key}.{name}', child, 'a dict with a type, or None')
            check_parts(child, f'{key}.{name}', registry, scope)
        return
    if registry is R.METRICS and 'metrics' in node:  # an evaluator of somebody's own
        check_parts(node['metrics'], f'{key}.metrics', registry, scope)
        return
    scope = node.get('_scope_') or scope
    if 'type' not in node:
        _check_untyped(node, key, registry)
    elif not _is_known(_check_part(node, key, registry, scope, complete)) and registry is not R.MODELS:
        return  # only its author knows what else it takes
    # A schedule is something else in the hooks of other libraries.
    inside = {} if registry is R.HOOKS and not _is_own(node.get('type')) else _INSIDE.get(registry.name, {})
    for name, child in node.items():
        path = f'{key}.{name}'
        if name in inside:
            check_parts(child, path, inside[name], scope)
        elif registry is R.MODELS and isinstance(child, (Mapping, list, tuple)) and _is_part(node, name):
            check_parts(child, path, registry, scope)
    cheap = registry in (R.TRANSFORMS, R.MASKINGS) or (registry in (R.HOOKS, R.PROBES) and _is_own(node.get('type')))
    if cheap and 'type' in node:
        try_to_build(key, node, registry, scope)


#: Keys of models of other libraries under which there are models; what else they hold may be anything.
_HOST_PARTS = ('backbone', 'neck', 'head', 'decode_head', 'auxiliary_head', 'data_preprocessor', 'loss_decode', 'loss')


def _is_part(node: Mapping, name: str) -> bool:
    """Whether a dict inside a model is a model."""
    own = 'type' not in node or _is_own(node['type'])
    return name in _HOST_PARTS or (own and not name.endswith('_cfg'))


#: Transforms whose ``transforms`` are those of another library.
_WRAPPERS = ('Albu', 'Albumentations')


def _is_known(found: Any) -> bool:
    """Whether a class takes under the names of this module what they mean here."""
    package = str(getattr(found, '__module__', '')).split('.')[0]
    return package in ('mmmim', *HOSTS) and getattr(found, '__name__', '') not in _WRAPPERS


def _is_own(kind: Any) -> bool:
    return str(kind if isinstance(kind, str) else getattr(kind, '__module__', '')).startswith('mmmim.')


def _check_untyped(node: Mapping, key: str, registry: Registry) -> None:
    if registry is R.OPTIM_WRAPPERS and 'optimizer' in node:
        return
    if registry is R.LOOPS:
        if key == 'train_cfg' and 'max_iters' not in node and 'max_epochs' not in node:
            raise InputError('train_cfg has no length: set train_cfg.max_iters.')
        known = ('by_epoch', 'max_iters', 'max_epochs', 'val_begin', 'val_interval', 'dynamic_intervals', 'fp16')
        check_names(key, node, known, 'A loop')
        _check_ranges(node, key, registry.name)
        return
    misspelt = [name for name in node if difflib.get_close_matches(str(name).lower(), ['type'], n=1, cutoff=0.7)]
    misspelt = [name for name in misspelt if isinstance(node[name], str)]
    if misspelt:
        raise InputError(f'{key} has no type, but {misspelt[0]}={node[misspelt[0]]!r}: did you mean {key}.type?')
    if registry not in (R.MODELS, R.LOG_PROCESSORS):  # of which mmengine knows the usual ones
        raise InputError(f'{key} has no type, so nothing says what to make of {", ".join(map(str, node)) or "it"}.')


def find_type(kind: Any, key: str, registry: Registry, scope: str) -> Any:
    """The class or function that a part names."""
    if not isinstance(kind, str):
        if not callable(kind):
            raise refuse(key, kind, 'the name of a class, with its package')
        return kind
    try:
        if registry.parent is None:
            found = registry.get(kind)
        else:
            with registry.switch_scope_and_registry(scope) as searched:
                found = searched.get(kind)
    except (RuntimeError, ImportError, AttributeError):
        found = None
    if not callable(found):  # mmengine also finds modules of Python
        close = _similar_type(kind, registry)
        hint = f' (did you mean {close}?)' if close else ''
        raise InputError(f'{key}: {kind} is not in the {registry.scope}::{registry.name} registry{hint}.')
    return found


def _similar_type(kind: str, registry: Registry) -> str:
    """A type of mmmim, or of the library that ``kind`` names, that was probably meant."""
    registry.import_from_location()
    root = registry
    while root.parent is not None:
        root = root.parent
    names = [f'mmmim.{name}' for name in registry.module_dict]
    for child in root.children.values():
        names += [f'{child.scope}.{name}' for name in child.module_dict]
    names += [f'{root.scope}.{name}' for name in root.module_dict]
    last = kind.rpartition('.')[2]
    close = [name for name in names if name.lower() == kind.lower()]
    close = close or [name for name in names if name.rpartition('.')[2].lower() == last.lower()]
    close = close or difflib.get_close_matches(kind, names, n=1, cutoff=0.7)
    close = close or difflib.get_close_matches(f'mmmim.{last}', names, n=1, cutoff=0.7)
    return close[0] if close else ''


def _check_part(node: Mapping, key: str, registry: Registry, scope: str, complete: bool) -> Any:
    found = find_type(node['type'], f'{key}.type', registry, scope)
    options = {name: value for name, value in node.items() if name not in ('type', '_scope_')}
    own = _is_own(found)
    given = _GIVEN.get(registry.name, ())
    # What a library's models hand to their parts is theirs to know; parts in their turn take more than they say.
    complete = complete and (own or registry in (R.TRANSFORMS, R.HOOKS, R.SCHEDULES, R.PROBES, R.MASKINGS))
    check_options(found, options, key, given, complete)
    if registry is R.OPTIM_WRAPPERS:
        check_value(f'{key}.paramwise_cfg', options.get('paramwise_cfg'), dict | None)
    if registry is R.HOOKS and options.get('interval') == -1 and 'save_best' in parameters_of(found)[0]:
        options.pop('interval')  # of checkpoints: none but the last, and the best
    if _is_known(found):
        _check_ranges(options, key, registry.name)
    _check_untyped_dicts(found, options, key)
    return found


def _check_untyped_dicts(found: Any, options: Mapping, key: str) -> None:
    """Options of things without a type, such as the branches of a model."""
    for name, parameter in parameters_of(found)[0].items():
        rule = next((rule for rule in _rules(parameter.hint) if isinstance(rule, OptionsOf)), None)
        if rule is None or not isinstance(options.get(name), Mapping):
            continue
        path = f'{key}.{name}'
        parts = (
            {f'{path}.{part}': value for part, value in options[name].items()} if rule.each else {path: options[name]}
        )
        for part, value in parts.items():
            if value is not None:
                check_value(part, value, dict)
                check_options(rule.function, value, part)


def _rules(hint: Any) -> tuple:
    return getattr(hint, '__metadata__', ())


def _check_ranges(options: Mapping, key: str, place: str) -> None:
    for name, hint in _HOST_RANGES.get(place, {}).items():
        if name in options and not is_placeholder(options[name]):
            check_value(f'{key}.{name}', options[name], hint)


def attempt(key: str, make: Callable[[], Any]) -> Any:
    """Make something cheap; what its constructor says against its options names their key."""
    try:
        return make()
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(key.split('.')[0]) else f'{key}: {message}') from None
    except ValueError as error:
        if 'end should be larger than begin' in str(error):
            raise refuse_short(error) from error
        raise _unusable(key, error) from error
    except (TypeError, AssertionError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise _unusable(key, error) from error


def _unusable(key: str, error: Exception) -> InputError:
    reason = ' '.join(str(error).split()).rstrip('.')[:200] or type(error).__name__
    return InputError(f'{key}: its options cannot be used: {reason}.')


def try_to_build(key: str, node: Mapping, registry: Registry, scope: str, **more: Any) -> Any:
    """Make a part that is cheap to make."""

    def make() -> Any:
        if registry.parent is None:
            return registry.build(copy.deepcopy(dict(node)), **more)
        with registry.switch_scope_and_registry(scope) as searched:
            return searched.build(copy.deepcopy(dict(node)), **more)

    return attempt(key, make)
