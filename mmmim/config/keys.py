"""Which keys of a config something reads, and where copies of a variable lie."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from mmmim.utils.internals import base_configs, config_dict
from mmmim.utils.nested import walk

#: What mmengine's runner, mmmim's and the tools read. Everything else at the top of a config is a variable of the file,
#: or belongs to somebody's own code.
READ = frozenset(
    {
        'activation_checkpointing',
        'auto_scale_lr',
        'compile',
        'custom_hooks',
        'custom_imports',
        'data_preprocessor',
        'default_hooks',
        'default_scope',
        'efficient_conv_bn_eval',
        'env_cfg',
        'experiment_name',
        'find_unused_parameters',
        'fit_dataloader',
        'global_batch_size',
        'images',
        'init',
        'launcher',
        'load_from',
        'log_level',
        'log_processor',
        'model',
        'model_wrapper_cfg',
        'optim_wrapper',
        'param_scheduler',
        'probe_data',
        'randomness',
        'resume',
        'runner_type',
        'strategy',
        'test_cfg',
        'test_dataloader',
        'test_evaluator',
        'train_cfg',
        'train_dataloader',
        'trust_checkpoint',
        'tta_model',
        'tta_pipeline',
        'val_cfg',
        'val_dataloader',
        'val_evaluator',
        'vis_backends',
        'visualizer',
        'work_dir',
    }
)


def what_is_read(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the variables of its files, of which only copies are read."""
    return {key: value for key, value in cfg.items() if key in READ}


def copies_of(cfg: Mapping, name: str) -> list[str]:
    """Where parts of a config that are read hold what the variable ``name`` of the file holds.

    Args:
        cfg: The config, before it is changed.
        name: A key at its top.

    Returns:
        Dotted paths. Of a number, only those whose last name is the variable's: others are equal by chance.
    """
    value = cfg[name]
    by_chance = value is None or isinstance(value, (bool, int, float)) or len(value) == 0
    return [
        path
        for path, other in walk(what_is_read(cfg))
        if other == value and type(other) is type(value) and (not by_chance or path.rpartition('.')[2] == name)
    ]


def variables_without_effect(cfg: Any, path: str) -> list[tuple[str, list[str]]]:
    """Variables of base configs that a config sets anew although only copies of their old values are read.

    ``mask_collate = dict(...)`` in a config whose base has ``mask_collate`` and ``train_dataloader =
    dict(collate_fn=mask_collate)`` leaves the data loader as it was, unless the config names the data loader too.

    Args:
        cfg: What was read, mmengine's ``Config``.
        path: File that the config was read from.

    Returns:
        Names, with the paths of the copies.
    """
    try:
        with open(path, encoding='utf-8') as file:
            tree = ast.parse(file.read())
    except (SyntaxError, UnicodeDecodeError):  # not Python: JSON and YAML have no variables
        return []
    assigned = {
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}
    candidates = sorted(name for name in assigned - used - READ if name in cfg and not name.startswith('_'))
    if not candidates or '_base_' not in assigned:
        return []
    from mmengine.config import Config

    found = []
    for base in base_configs(path):
        inherited = Config.fromfile(base)
        for name in candidates:
            if name in inherited and inherited[name] != cfg[name]:
                copies = [copy for copy in copies_of(config_dict(inherited), name) if _at(cfg, copy) == inherited[name]]
                found += [(name, copies)] if copies else []
    return found


def _at(node: Any, path: str) -> Any:
    """The value of a dotted path; None where there is none."""
    for part in path.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return node
