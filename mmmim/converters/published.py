"""Published weights by name, as files that everything here takes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from mmmim.config.downloads import LocalWeights
from mmmim.config.weights import PublishedWeights, published
from mmmim.utils import InputError

from .registry import CONVERTERS


def find_weights(source: str | Path, foreign: bool = False) -> tuple[str, str | None]:
    """The file that a user means, and the model of another library that it is of.

    The only place where a name becomes a file: every tool that takes a checkpoint asks here. Files come before names.

    Args:
        source: Path of a file, a name of :mod:`mmmim.config.weights`, a model of another library with its file as
            :func:`mmmim.models.backbones.libraries.split_source` reads it, or anything else, which is given back.
        foreign: Whether the user names a model of another library elsewhere, which takes the file as it was published.

    Returns:
        The file, 'random', or ``source``; and the model of another library that the word or the table names for it,
        such as 'timm:NAME'; or None.

    Raises:
        InputError: The weights cannot be had, are not what they were, cannot be converted, or are of no encoder.
    """
    # Tools that only print their help do without torch.
    from mmmim.models.backbones.libraries import split_source

    if (found := split_source(source)) is not None:
        model, file = found
        return find_weights(file, foreign=True)[0], None if foreign else model
    row = published(str(source))
    if row is None or Path(source).exists():
        return str(source), None
    if row.tokenizer is not None:
        raise InputError(
            f"{row.name} is no encoder but {row.what}: name it in a config, tokenizer=dict(type='{row.tokenizer}', "
            f"weights='{row.name}')."
        )
    local = LocalWeights(row)
    if foreign or row.layout is None:
        return str(local.fetch()), None if foreign else row.encoder
    return str(_converted(local)), None


def _converted(local: LocalWeights) -> Path:
    """The file in mmmim's format, named by what it is made of: file, converter and options."""
    row = local.weights
    if local.sha256 is None:
        local.fetch()
    how = [local.sha256, row.layout, CONVERTERS[row.layout or ''].version, dict(row.options), row.mean, row.std]
    key = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:12]
    return local.made(f'{row.name}-{key}.pth', lambda source, target: _convert(row, source, target))


def _convert(row: PublishedWeights, source: Path, target: Path) -> None:
    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file

    converted = CONVERTERS[row.layout or ''].convert(load_checkpoint_file(source), str(source), **row.options)
    set_statistics(converted['mmmim']['model'], row, source)
    save_checkpoint_file(converted, target)


def set_statistics(model: dict[str, Any], row: PublishedWeights, source: str | Path) -> None:
    """Give a converted model the mean and the deviation of its images.

    Args:
        model: Config of the model, changed in place.
        row: Row of the table, which has both.
        source: Name of the file, for messages.

    Raises:
        InputError: The file has them, too, and they are others.
    """
    stated = {'mean': row.mean, 'std': row.std}
    preprocessor = model.setdefault('data_preprocessor', {'type': 'mmmim.MIMDataPreprocessor'})
    for key, values in stated.items():
        found = preprocessor.setdefault(key, list(values or ()))
        if len(found) != len(values or ()) or not all(map(_same, found, values or ())):
            raise InputError(
                f'{source} has images of the {key} {found}, and {row.name} should have {list(values or ())}.'
            )


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4)
