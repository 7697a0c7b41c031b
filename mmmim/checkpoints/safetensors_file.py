"""Files of the library safetensors: names and tensors, and in those of mmmim the description of the model, as text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.atomic import write_atomically

#: Key of the file's metadata under which mmmim describes the model, as JSON.
KEY = 'mmmim'


def is_safetensors(path: str | os.PathLike) -> bool:
    """Whether a file is one of safetensors, by its name."""
    return Path(path).suffix == '.safetensors'


def read_safetensors(file: Path) -> dict[str, Any]:
    """What a file of safetensors holds.

    Args:
        file: A local file.

    Returns:
        Names and tensors; of a file that mmmim has written, a checkpoint with ``state_dict`` and ``mmmim``.

    Raises:
        InputError: The library is missing, or the file is damaged.
    """
    try:
        from safetensors import safe_open
    except ImportError:
        raise InputError(f'{file} needs the library safetensors: pip install safetensors') from None
    try:
        with safe_open(file, framework='pt') as content:
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            text = (content.metadata() or {}).get(KEY)
    except Exception as error:
        raise InputError(f'{file} is damaged or no safetensors file ({error}). Copy or download it again.') from error
    if text is None:
        return weights
    try:
        info = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{file} is damaged: what it says of its model is no JSON ({error}).') from error
    if not isinstance(info, dict):
        raise InputError(f'{file} is damaged: what it says of its model is a {type(info).__name__}, not a dict.')
    return {'state_dict': weights, KEY: info}


def write_safetensors(path: str | os.PathLike, weights: Mapping[str, Tensor], info: Mapping[str, Any] | None) -> None:
    """Write a file of safetensors, as a whole or not at all.

    Args:
        path: The file; its folder is made.
        weights: Names and tensors.
        info: What ``mmmim`` of a checkpoint holds, as plain data; None for a file of another library.

    Raises:
        InputError: The library is missing, or the disk is full.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise InputError(f'{path} needs the library safetensors: pip install safetensors') from None
    metadata = {'format': 'pt'} | ({} if info is None else {KEY: json.dumps(info)})
    content = save({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, metadata)
    write_atomically(path, lambda stream: stream.write(content))
