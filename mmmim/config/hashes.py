"""Hashes of configs: whether what a recorded number came of is still what a config says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mmengine import Config

from mmmim.utils import InputError

from .keys import what_is_read

#: What the trainings of a comparison turn off, and what only that reads.
_OFF = ('val_dataloader', 'val_cfg', 'val_evaluator', 'probe_data')
_HOOKS_OFF = ('probe', 'health')
#: What only reports, and did not exist yet when comparisons were recorded.
_REPORTS = ('mmmim.ReportHook',)

#: What decides the curves of a training, beside its hooks.
_DECISIVE = ('global_batch_size', 'model', 'optim_wrapper', 'param_scheduler', 'train_dataloader')
#: Of a loop, a data loader or a data set: where and how often, not what.
_INDIFFERENT = ('val_interval', 'val_begin', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
#: Hooks that watch, keep or count.
_HOOKS_THAT_WATCH = (
    'checkpoint',
    'health',
    'logger',
    'param_scheduler',
    'probe',
    'runtime_info',
    'sampler_seed',
    'timer',
)


def digest(value: Any) -> str:
    """A hash of plain data, of 16 digits, which the order of keys does not change and lists and tuples share.

    Raises:
        InputError: There is something else in it.
    """

    def refuse(node: Any) -> Any:
        raise InputError(f'A config that is compared must hold plain data only, not {node!r}.')

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=refuse).encode()).hexdigest()[:16]


def config_hash(cfg: Config) -> str:
    """A hash of what a training of a comparison reads: a config without validation, probes and health."""
    read = {key: value for key, value in what_is_read(cfg.to_dict()).items() if key not in _OFF}
    hooks = read.get('default_hooks') or {}
    read['default_hooks'] = {key: hook for key, hook in hooks.items() if key not in _HOOKS_OFF}
    read['custom_hooks'] = [hook for hook in read.get('custom_hooks') or [] if hook['type'] not in _REPORTS]
    if not (read.get('auto_scale_lr') or {}).get('enable'):
        read.pop('auto_scale_lr', None)  # says what the rate is for, and scales nothing
    return digest(read)


def curves_hash(cfg: Config) -> str:
    """A hash of what decides the curves of a training, as far as seeds do not: not of folders, workers or intervals."""
    read = cfg.to_dict()
    hooks = {key: hook for key, hook in (read.get('default_hooks') or {}).items() if key not in _HOOKS_THAT_WATCH}
    decisive = {key: _without(read.get(key), ('data_root', *_INDIFFERENT)) for key in _DECISIVE}
    return digest({**decisive, 'hooks': hooks, 'train_cfg': _without(read.get('train_cfg'), _INDIFFERENT)})


def _without(node: Any, keys: tuple[str, ...]) -> Any:
    """Nested plain data without these keys of dicts, and without keys whose value is None."""
    if isinstance(node, Mapping):
        return {key: _without(value, keys) for key, value in node.items() if key not in keys and value is not None}
    return [_without(value, keys) for value in node] if isinstance(node, list | tuple) else node
