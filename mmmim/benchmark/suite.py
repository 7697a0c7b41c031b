"""What a benchmark measures: protocols, each with the one score that a table shows and a line on what it tells."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.config.resources import resources
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.nested import dicts
from mmmim.utils.options import check_names

#: The variable by which configs of protocols take another data set.
DATA = 'MMMIM_DATA'
_FOLDER = 'configs/_base_/suites'


@dataclass(frozen=True)
class Protocol:
    """A protocol of a suite.

    Attributes:
        name: Key of the protocol in its suite, which names files.
        title: What the table calls it.
        measures: A sentence on what it tells.
        config: The config that runs it, by its name (``eval/cls_knn_fashion``) or file.
        score: The metric that the table shows.
        unit: What follows a score: '%', or ''.
        higher: Whether more is better.
        data: Data set of the config, where it takes any (``MMMIM_DATA``).
        options: Changes of the config, as ``--cfg-options`` takes them.
        blocks: Whether every block of the encoder is tested, for a curve; the table shows the last one.
    """

    name: str
    title: str
    measures: str
    config: str
    score: str
    unit: str = '%'
    higher: bool = True
    data: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: bool = False

    def load(self) -> Any:
        """Its config, of its data set and with its options, for any encoder.

        Raises:
            InputError: The config cannot be read, or has no such keys.
        """
        with environment(self.data):
            cfg = load_config(self.config)
        merge_cfg_options(cfg, self.option_words)
        return cfg

    @property
    def option_words(self) -> list[str]:
        """Its options as words of a command line."""
        return [f'{key}={value}' for key, value in self.options.items()]


@contextmanager
def environment(data: str | None) -> Iterator[None]:
    """The environment in which configs take a data set; None for their own, whatever is set outside."""
    before = os.environ.pop(DATA, None)
    if data is not None:
        os.environ[DATA] = data
    try:
        yield
    finally:
        os.environ.pop(DATA, None)
        if before is not None:
            os.environ[DATA] = before


def suites() -> list[str]:
    """Names of the suites that come with mmmim."""
    return sorted(path.stem for path in (resources() / _FOLDER).glob('*.py'))


def read_suite(name: str) -> list[Protocol]:
    """The protocols of a suite, in their order.

    Args:
        name: One of :func:`suites`, or a config file with ``protocols``, a dict of dicts of the fields of
            :class:`Protocol`, and perhaps names of suites to ``include`` before them.

    Raises:
        InputError: There is no such suite, or a protocol lacks a field or has another one.
    """
    own = name in suites()
    if not own and not Path(name).is_file():
        raise InputError(f'--suite {name}: use {", ".join(suites())}, or a config file with protocols.')
    cfg = load_config(str(resources() / _FOLDER / f'{name}.py') if own else name)
    found = cfg.get('protocols')
    if not isinstance(found, Mapping) or not found:
        raise InputError(f'--suite {name}: the file has no protocols=dict(...).')
    protocols = [protocol for each in cfg.get('include', []) for protocol in read_suite(each)]
    for key, options in cfg.to_dict()['protocols'].items():
        where = f'{name}: protocols.{key}'
        known = {*Protocol.__dataclass_fields__} - {'name'}
        check_names(f'protocols.{key}', options, known, f'A protocol of {name}')
        if lacking := [each for each in ('title', 'measures', 'config', 'score') if not options.get(each)]:
            raise InputError(f'{where} has no {", ".join(lacking)}.')
        protocols.append(Protocol(name=key, **options))
    return protocols


def missing_data(cfg: Any) -> str | None:
    """What a config lacks of its data: a sentence that says where to put it, or None.

    Args:
        cfg: Config of a protocol.
    """
    for key in ('train_dataloader', 'fit_dataloader', 'val_dataloader', 'test_dataloader'):
        for node in dicts((cfg.get(key) or {}).get('dataset') or {}):
            root = node.get('data_root')
            if not isinstance(root, str) or os.path.isdir(root) or _writes_itself(node):
                continue
            try:
                DATASETS.build(node)
            except Exception as error:  # any data set says it in its own way
                if isinstance(error, InputError):
                    return str(error)
            return (
                f'There is no folder {root}: docs/en/dataset_prepare.md says what to download and how it lies on disk.'
            )
    return None


def _writes_itself(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set needs no files but those that it makes from what comes along."""
    kind = dataset.get('type')
    return bool(getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'embedded', False))
