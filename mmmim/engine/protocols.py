"""Fitted protocols as functions: the config of a protocol and an encoder give scores.

``mmmim test`` runs these functions, and so does whoever scores an encoder inside another program: what they give is the
same number.
"""

from __future__ import annotations

import copy
import difflib
import gc
import os
import time
from dataclasses import dataclass
from typing import Any

from mmmim.apis.downstream import EncoderInMemory
from mmmim.config.read import load_config
from mmmim.config.resources import config_names
from mmmim.registry import LOOPS, build_runner
from mmmim.utils import InputError
from mmmim.utils.isolation import isolated
from mmmim.utils.names import printable
from mmmim.utils.plain import to_plain

from .ddp import bare_model

#: The folder of the protocols among the configs.
_FOLDER = 'eval/'


@dataclass(frozen=True)
class ProtocolResult:
    """What a protocol says of an encoder.

    Attributes:
        metrics: Scores by name, as plain numbers; the same in all processes.
        records: What the loop says beyond them, by layer: ``layer``, the ``setting`` that was chosen, ``scores``; none
            of evaluations without labels.
        seconds: What it took, features included.
    """

    metrics: dict[str, Any]
    records: list[dict[str, Any]]
    seconds: float


def fits(cfg: Any) -> bool:
    """Whether the test loop of a config needs no trained head: it fits its own to frozen features, or has none."""
    kind = (cfg.get('test_cfg') or {}).get('type')
    return bool(getattr(LOOPS.get(kind) if isinstance(kind, str) else kind, 'fits', False))


def protocol_name(name: str) -> str:
    """What a protocol is called in tables: ``cls_knn_fashion``, of its name, its path or its file."""
    return os.path.splitext(os.path.basename(name))[0]


def protocol_config(name: str) -> Any:
    """The config of a fitted protocol, for any encoder yet.

    Args:
        name: Name of a config in ``configs/eval``, ``cls_knn_fashion`` or ``eval/cls_knn_fashion``, or a file.

    Returns:
        mmengine's ``Config``, with placeholders for the encoder.

    Raises:
        InputError: There is no such protocol, or it trains a head.
    """
    known = [each for each in config_names() if each.startswith(_FOLDER)]
    if f'{_FOLDER}{name}' in known:
        name = f'{_FOLDER}{name}'
    elif name not in known and not os.path.isfile(name):
        short = [each.removeprefix(_FOLDER) for each in known]
        close = difflib.get_close_matches(protocol_name(name), short, n=3, cutoff=0.5)
        raise InputError(
            f'There is no protocol {printable(name)}: '
            + (f'the nearest are {", ".join(close)}.' if close else 'mmmim list eval has their names.')
        )
    cfg = load_config(name)
    if not fits(cfg):
        raise InputError(
            f'{printable(name)} trains a head, which only fitted protocols (such as cls_knn_fashion) do without: train '
            f'it by itself, mmmim train {printable(name)} --pretrained CHECKPOINT.'
        )
    return cfg


def run_protocol(cfg: Any, encoder: EncoderInMemory | None = None) -> ProtocolResult:
    """Run the test loop of a config; the process is as it was afterwards.

    All processes of a distributed program call it together, with ``cfg.launcher`` set as theirs, and share the work as
    under ``tools/dist_test.sh``. Features are shared with whatever has the same ``cfg.test_cfg.cache.folder``.

    Args:
        cfg: Config of a protocol with a ``work_dir``; it is not changed. Its encoder is the one that
            :func:`mmmim.apis.downstream.apply_pretrained` has put there, unless there is an ``encoder``.
        encoder: An encoder in memory, whose weights are read in place; None for that of the config.

    Raises:
        InputError: As ``mmmim test``.
    """
    start = time.perf_counter()
    cfg = copy.deepcopy(cfg)
    with isolated():
        if encoder is not None:
            encoder.apply(cfg)
        runner = build_runner(cfg)
        if encoder is not None:
            encoder.share(bare_model(runner))
        metrics = {key: getattr(value, 'tolist', lambda v=value: v)() for key, value in runner.test().items()}
        records = getattr(runner.test_loop, 'records', [])
    del runner  # lies in cycles of references, with the memory of its data and features
    gc.collect()
    return ProtocolResult(to_plain(metrics), to_plain(records), time.perf_counter() - start)
