"""The settings that decide about the weights that come out of a training."""

from __future__ import annotations

import re
from typing import Any

from mmmim.utils.names import printable
from mmmim.utils.nested import leaves
from mmmim.utils.plain import to_plain

#: Where these settings are, and those among them that do not.
_TRAINING_KEYS = (
    'model',
    'train_dataloader',
    'global_batch_size',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
)
_NOT_ABOUT_WEIGHTS = re.compile(
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)$|train_cfg\.val_'
    r'|model\.backbone\.(checkpoint|weights)$|default_hooks\.(logger|checkpoint|timer|runtime_info)\.'
)


def training_config(cfg: Any) -> dict:
    """These settings of an mmengine config, as plain data."""
    config = to_plain(cfg.to_dict())
    return {key: config[key] for key in _TRAINING_KEYS if config.get(key) is not None}


def describe_changes(before: dict, now: dict, most: int = 10) -> list[str]:
    """How two such configs differ: ``key: old -> new``, ``most`` of them."""
    old, new = (dict(leaves(config)) for config in (before, now))
    keys = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and not _NOT_ABOUT_WEIGHTS.match(k)]
    more = [f'and {len(keys) - most} more'] if len(keys) > most else []
    return [printable(f'{key}: {old.get(key)} -> {new.get(key)}') for key in keys[:most]] + more
