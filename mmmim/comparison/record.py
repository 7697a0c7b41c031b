"""What made the scores of a comparison: its specification, and a hash of the config of every arm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine import Config

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.hashes import config_hash, digest
from mmmim.config.read import load_config
from mmmim.config.resources import repository
from mmmim.utils import InputError

#: What of a specification its numbers come of.
_MADE_BY = ('subsets', 'scores', 'seeds')


def arm_config(arm: Mapping[str, Any]) -> Config:
    """The config of an arm with its changes, as a specification names it from the repository's root.

    Args:
        arm: ``config`` and ``options``.
    """
    root = repository()
    cfg = load_config(str(root / arm['config']) if root else arm['config'])
    merge_cfg_options(cfg, option_words(arm.get('options', {})))
    return cfg


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Changes of a config as ``--cfg-options`` takes them."""
    return [f'{key}={value}' for key, value in options.items()]


def arm_hash(arm: Mapping[str, Any]) -> str:
    """A hash of an arm: :func:`config_hash` of its config, or of what it has instead."""
    return config_hash(arm_config(arm)) if 'config' in arm else digest(dict(arm))


def describe(spec: Config) -> dict[str, Any]:
    """What a record keeps beside the numbers: the specification that they come of, and the hash of every arm."""
    plain = spec.to_dict()
    configs = {subset: {name: arm_hash(arm) for name, arm in arms.items()} for subset, arms in plain['subsets'].items()}
    return {'spec': {key: plain[key] for key in _MADE_BY if key in plain}, 'configs': configs}


def read_runs(record: Path) -> dict[str, dict[str, float]]:
    """The runs of a record: scores by a hash of what made them.

    Raises:
        InputError: The file is no record with its runs.
    """
    try:
        runs = json.loads(record.read_text())['runs']
        if all(isinstance(value, int | float) for scores in runs.values() for value in scores.values()):
            return runs
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f'{record} is no record that keeps the scores of its runs: give the results.json of a comparison.')


def changes(record: Path, spec: Config) -> list[str]:
    """What has changed of a comparison since its record was made, a line each.

    Args:
        record: The record, a ``results.json``.
        spec: The specification as it is.

    Raises:
        InputError: The file is no record with the hashes of its configs.
    """
    try:
        then = json.loads(record.read_text())
        configs, scores = then['configs'], then['spec'].get('scores')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{record} is no record that keeps its specification and hashes of its configs.') from error
    now, found = describe(spec), []
    if digest(scores) != digest(now['spec'].get('scores')):
        found.append('scores: what is measured has changed')
    for subset in {**configs, **now['configs']}:
        old, new = configs.get(subset, {}), now['configs'].get(subset, {})
        for name in {**old, **new}:
            if name not in new:
                found.append(f'{subset}, {name}: no arm of the specification any more')
            elif name not in old:
                found.append(f'{subset}, {name}: not in the record')
            elif old[name] != new[name]:
                found.append(f'{subset}, {name}: the config has changed')
    return found
