"""Which keys of a config something reads, and where copies of a variable lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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


def leaves(node: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths of everything inside nested dicts and lists, containers included."""
    items: Any = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, value in items:
        yield f'{prefix}{key}', value
        yield from leaves(value, f'{prefix}{key}.')


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
        for path, other in leaves({key: part for key, part in cfg.items() if key in READ})
        if other == value and type(other) is type(value) and (not by_chance or path.rpartition('.')[2] == name)
    ]
