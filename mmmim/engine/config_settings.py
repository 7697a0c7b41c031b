"""What belongs to a config as such: seeds, environment, compilation, the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmmim import registry as R
from mmmim.utils.options import (
    Count,
    Natural,
    Positive,
    Seed,
    check_choice,
    check_names,
    check_options,
    check_value,
    parameters_of,
    refuse,
)

#: Images of a batch above which no machine is meant.
_MOST_IMAGES = 2**24


def check_settings(cfg: Mapping[str, Any]) -> None:
    """Check what no part of a config owns.

    Raises:
        InputError: Naming the key.
    """
    for key, hint in {
        'global_batch_size': Count | None,
        'init': dict | None,
        'load_from': str | None,
        'work_dir': str | None,
        'experiment_name': str | None,
        'trust_checkpoint': bool,
        'force_lock': bool,
        'find_unused_parameters': bool,
        'compile': bool | dict | None,
        'randomness': dict,
        'env_cfg': dict,
        'default_scope': str | None,
        'model': dict,
        'train_cfg': dict | None,
        'val_cfg': dict | None,
        'test_cfg': dict | None,
        'optim_wrapper': dict | None,
    }.items():
        if key in cfg:
            check_value(key, cfg[key], hint)
    if (init := cfg.get('init')) is not None:
        check_names('init', init, ('source', 'weights'), 'The start of the encoder')
        check_value('init.source', init.get('source'), str)
        check_choice('init.weights', init.get('weights', 'auto'), ('auto', 'ema', 'student'))
    batch = cfg.get('global_batch_size')
    if batch is not None and batch > _MOST_IMAGES:
        raise refuse('global_batch_size', batch, f'a number of images that a step can hold, up to {_MOST_IMAGES}')
    if cfg.get('resume', False) not in (True, False, None, 'auto'):
        raise refuse('resume', cfg.get('resume'), "True, False or 'auto'")
    levels = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
    if isinstance(level := cfg.get('log_level', 'INFO'), bool) or not isinstance(level, int):
        check_choice('log_level', level, levels)
    randomness = cfg.get('randomness') or {}
    check_names('randomness', randomness, ('seed', 'diff_rank_seed', 'deterministic'), 'The seeding')
    check_value('randomness.seed', randomness.get('seed'), Seed | None)
    for key in ('diff_rank_seed', 'deterministic'):
        check_value(f'randomness.{key}', randomness.get(key, False), bool)
    _check_environment(cfg.get('env_cfg') or {})
    if isinstance(options := cfg.get('compile'), Mapping):
        check_options(torch.compile, options, 'compile', given=('model',))
        if (mode := options.get('mode')) is not None:
            modes = ('default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs')
            check_choice('compile.mode', mode, modes)
        if isinstance(backend := options.get('backend'), str):
            known = torch.compiler.list_backends(exclude_tags=())
            if backend not in known:
                raise refuse('compile.backend', backend, f'a back end of torch, such as {known[-1]!r}')
        for name in ('dynamic', 'fullgraph'):
            check_value(f'compile.{name}', options.get(name), bool | None)
    if (strategy := cfg.get('strategy')) is not None:
        _check_strategy(strategy)
    if (scaling := cfg.get('auto_scale_lr')) is not None:
        check_names('auto_scale_lr', scaling, ('base_batch_size', 'enable'), 'The scaling of the rate')
        check_value('auto_scale_lr.enable', scaling.get('enable', False), bool)
        check_value('auto_scale_lr.base_batch_size', scaling.get('base_batch_size'), Count | None)


def _check_environment(environment: Mapping[str, Any]) -> None:
    known = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
    check_names('env_cfg', environment, known, 'The environment')
    check_value('env_cfg.cudnn_benchmark', environment.get('cudnn_benchmark', False), bool)
    check_value('env_cfg.resource_limit', environment.get('resource_limit'), Count | None)
    processes = environment.get('mp_cfg') or {}
    check_value('env_cfg.mp_cfg', processes, dict)
    check_names('env_cfg.mp_cfg', processes, ('mp_start_method', 'opencv_num_threads'), 'The set-up of workers')
    methods = (None, *torch.multiprocessing.get_all_start_methods())
    check_choice('env_cfg.mp_cfg.mp_start_method', processes.get('mp_start_method'), methods)
    check_value('env_cfg.mp_cfg.opencv_num_threads', processes.get('opencv_num_threads', 0), Natural)
    distributed = environment.get('dist_cfg') or {}
    check_value('env_cfg.dist_cfg', distributed, dict)
    check_value('env_cfg.dist_cfg.backend', distributed.get('backend', 'nccl'), str)
    check_value('env_cfg.dist_cfg.timeout', distributed.get('timeout'), Positive | None)


def _check_strategy(strategy: Any) -> None:
    check_value('strategy', strategy, dict)
    options = {key: value for key, value in strategy.items() if key != 'type'}
    kind = strategy.get('type')
    if kind is None:
        return
    check_choice('strategy.type', kind, ('mmmim.FSDP2Strategy', None))
    known, _ = parameters_of(R.STRATEGIES.get(kind))
    own = [name for name, parameter in known.items() if not parameter.host]
    check_names('strategy', options, own, kind)
    check_options(R.STRATEGIES.get(kind), options, 'strategy', complete=False)
    check_choice('strategy.param_dtype', options.get('param_dtype'), (None, 'bfloat16', 'float16'))
