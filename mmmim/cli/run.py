"""What a command line makes of a config: the one road of ``train`` and ``test`` from a file to what is run.

A config is read; whose encoder it is for is found out; options change it; facts of the encoder take the places that
wait for them; and it is checked as a whole. The file of the encoder is read once on the way, and the encoder built once
without memory: facts and weights come from the same reading (:func:`mmmim.checkpoints.mapped.reading_once`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.output import keep_writing


@dataclass(frozen=True)
class Command:
    """How a command differs from the others on this road.

    Attributes:
        verb: What happens to the config, for messages: 'trained'.
        keys: Keys that a config must have for it.
        tested: Gives the checkpoint whose model takes the place of the config's own, from the config as it was read.
        prepare: Changes the config by arguments of this command; gives the checkpoint whose training goes on, which
            knows its encoder.
        complete: Changes the config once it has its encoder.
    """

    verb: str
    keys: tuple[str, ...]
    tested: Callable[[Any, argparse.Namespace], str | None]
    prepare: Callable[[Any, argparse.Namespace], str | None]
    complete: Callable[[Any, argparse.Namespace], None]


def build_config(args: argparse.Namespace, command: Command) -> Any:
    """The config of a command line, checked.

    The encoder of a config for downstream tasks is that of the tested model, else that of the training that goes on,
    else what ``--pretrained`` and ``--encoder`` name.

    Args:
        args: Arguments of :func:`mmmim.cli.arguments.add_run_options` and of the command, parsed.
        command: The command that will run the config.

    Returns:
        mmengine's ``Config``, as it will be run.

    Raises:
        InputError: An argument, a key or a file is wrong.
    """
    from mmmim.apis.downstream import apply_pretrained, apply_trained, set_encoder
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.engine.config_check import check_config

    cfg = load_config(args.config)
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    if (tested := command.tested(cfg, args)) is not None:
        _take_model(cfg, tested)
    set_encoder(cfg, args.encoder)
    merge_cfg_options(cfg, args.cfg_options)
    for key in command.keys:
        if cfg.get(key) is None:
            raise InputError(f'{args.config} cannot be {command.verb}: it has no {key}.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    if (resumed := command.prepare(cfg, args)) is not None:
        apply_trained(cfg, resumed)
    else:
        apply_pretrained(cfg, args.pretrained, args.weights)
    command.complete(cfg, args)
    check_config(cfg)
    try:
        os.makedirs(cfg.work_dir, exist_ok=True)
    except OSError as error:
        raise InputError(f'The work folder {cfg.work_dir} cannot be made: {error.strerror}.') from error
    return cfg


def _take_model(cfg: Any, checkpoint: str) -> None:
    """Make the model of a downstream task what it was trained as; the config's own says only how it is trained now."""
    from mmmim.apis.downstream import apply_trained
    from mmmim.config.differences import describe_changes

    model = apply_trained(cfg, checkpoint)
    if changes := describe_changes({'model': cfg.model.to_dict()}, {'model': model}):
        print(f'The model is that of {checkpoint}, which differs from the config: {"; ".join(changes)}')
    cfg.model = model


def run(args: argparse.Namespace, command: Command, start: Callable[[Any], None]) -> None:
    """Start what a command line asks for.

    Args:
        args: Arguments of :func:`mmmim.cli.arguments.add_run_options` and of the command, parsed.
        command: The command that is run.
        start: What is done with the config.
    """
    keep_writing()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from mmmim.checkpoints.mapped import reading_once

    with reading_once():
        start(build_config(args, command))


def latest_checkpoint(cfg: Any, folder: str) -> tuple[str | None, Sequence[str]]:
    """The latest checkpoint of a work folder that loads, and what is to be said about the choice."""
    from mmmim.checkpoints.folder import CheckpointFolder

    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    return CheckpointFolder.of_config(folder, hook).find_latest(cfg.get('trust_checkpoint', False))
