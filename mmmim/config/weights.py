"""The table of published weights, ``configs/weights.yml``.

Importing this module is cheap: command lines read the table before they import torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mmmim.utils import InputError

from .resources import config_names, resources

TABLE = 'configs/weights.yml'


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that somebody has published, as the table describes it.

    Attributes:
        name: What users call it.
        what: Method, size and data, a phrase.
        source: Page of the publisher, or of the file where no program can download it.
        licence: Licence in words; "non-commercial" stands in it where it is so.
        file: Name of the file here; none that a server says.
        url: Address of the file; None where it must be put in its place by hand.
        sha256: SHA-256 of the file in hexadecimal digits, or how it begins, where the publisher states it.
        layout: Name of the converter, a key of :data:`mmmim.converters.registry.CONVERTERS`; None for files that are
            used as they are.
        options: Arguments of the converter.
        encoder: The model that the file is the weights of, 'mmpretrain:NAME', where it is used as it is.
        tokenizer: Class of the tokenizer that the file is the weights of.
        mean: Mean of every channel, in the 0-255 range, RGB, that images were normalised with.
        std: Standard deviation of every channel, in the 0-255 range, RGB.
        config: Name of the config whose training it is the result of, in its paper or in OpenMMLab's.
    """

    name: str
    what: str
    source: str
    licence: str
    file: str
    url: str | None = None
    sha256: str = ''
    layout: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    encoder: str | None = None
    tokenizer: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    config: str | None = None

    def __post_init__(self) -> None:
        uses = [use for use in (self.layout, self.encoder, self.tokenizer) if use is not None]
        for wrong, words in (
            (re.search(r'[/\\=:]|\.py$|\.pth?$', self.name), 'is a name that could be a path'),
            (not re.fullmatch(r'[\w-][\w.-]*', self.file), f'file={self.file!r} is not the bare name of a file'),
            (self.url is not None and not self.url.startswith('https://'), 'url does not begin with https://'),
            (not re.fullmatch(r'[0-9a-f]{8,64}|', self.sha256), 'sha256 is not 8 to 64 hexadecimal digits'),
            (len(uses) != 1, 'one of layout, encoder and tokenizer says what takes it'),
        ):
            if wrong:
                raise InputError(f'{TABLE}: {self.name}: {words}.')


@dataclass(frozen=True)
class WeightsTable:
    """The whole table.

    Attributes:
        note: What is known of all of it.
        weights: Rows of the table, by name.
    """

    note: str
    weights: dict[str, PublishedWeights]


def read_weights(path: Path | None = None) -> WeightsTable:
    """Read the table.

    Args:
        path: File of the table; None for that of mmmim.

    Raises:
        InputError: A row has other keys or values than :class:`PublishedWeights`, or two are of one config.
    """
    return _read(path or resources() / TABLE)


@cache
def _read(path: Path) -> WeightsTable:
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    publishers = content['publishers']
    known = {each.name for each in fields(PublishedWeights)} - {'name'}
    weights: dict[str, PublishedWeights] = {}
    for name, row in content['weights'].items():
        row = {**publishers[row['publisher']], **{key: value for key, value in row.items() if key != 'publisher'}}
        if isinstance(row.get('url'), str):
            row.setdefault('file', row['url'].rpartition('/')[2])
        if unknown := row.keys() - known:
            raise InputError(f'{path}: {name} has {", ".join(sorted(unknown))}: there are {", ".join(sorted(known))}.')
        for key in ('mean', 'std'):
            row[key] = None if row.get(key) is None else tuple(row[key])
        weights[name] = PublishedWeights(name=name, **row)
    of_configs = [each.config for each in weights.values() if each.config is not None]
    if twice := [config for config in of_configs if of_configs.count(config) > 1]:
        raise InputError(f'{path}: two files are of the config {twice[0]}.')
    return WeightsTable(' '.join(content['note'].split()), weights)


def published(name: str) -> PublishedWeights | None:
    """The row of a name; None where the table has none."""
    return read_weights().weights.get(name)


def model_names(pattern: str = '*', pretrained: bool = False, ablations: bool = False) -> list[str]:
    """Names that :func:`mmmim.get_model` takes.

    Args:
        pattern: Shell pattern, e.g. ``capi/*``.
        pretrained: Published weights of encoders, e.g. ``capi_vitl14_lvd``, instead of configs, e.g. ``capi/vitl14``.
        ablations: Whether to list configs of ablations, too; a ``pattern`` with this word in it does as well.

    Returns:
        Sorted names.
    """
    if pretrained:
        names = sorted(name for name, each in read_weights().weights.items() if each.tokenizer is None)
    else:
        shown = ablations or 'ablations' in pattern
        names = [name for name in config_names() if shown or '/ablations/' not in name]
        names = [name for name in names if not name.startswith('eval/')]
    return [name for name in names if fnmatch(name, pattern)]


def similar_names(name: str, most: int = 3) -> list[str]:
    """Names of models that are written nearly like ``name``: of published weights first, then of configs."""
    return difflib.get_close_matches(name, [*model_names(pretrained=True), *model_names(ablations=True)], n=most)
