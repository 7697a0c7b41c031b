"""Reading and writing checkpoint files: plain data only, atomic, strict.

Files written here load with ``torch.load(weights_only=True)``: reading one never runs code.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .atomic import write_atomically
from .errors import InputError

_LEFT_OUT = object()


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = 'cpu', trust: bool = False) -> dict[str, Any]:
    """Read a local checkpoint file.

    Args:
        path: A local file. Nothing is downloaded.
        map_location: As in ``torch.load``.
        trust: Also read pickled Python objects, which can run any code when they are loaded.

    Raises:
        InputError: The file is missing, damaged, holds other objects than tensors and plain data, or is not a dict.
    """
    name = os.fspath(path)
    if '://' in name:
        raise InputError(f'{name}: checkpoints are read from local files only. Download it and give its path.')
    file = Path(name).expanduser()
    if file.is_dir():
        raise InputError(f'{file} is a folder: give a checkpoint file inside it, such as {file / "iter_1000.pth"}.')
    if not file.is_file():
        raise InputError(f'The checkpoint {file} does not exist.')
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Detected pickle protocol')
            checkpoint = torch.load(file, map_location=map_location, weights_only=not trust)
    except (PermissionError, torch.OutOfMemoryError) as error:
        raise InputError(f'The checkpoint {file} cannot be read: {error}') from error
    except Exception as error:
        unsafe = re.search(r'Unsupported (?:global|class)\S* (?:GLOBAL )?(\S+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and unsafe:
            raise InputError(
                f'The checkpoint {file} contains Python objects ({unsafe.group(1)}), and loading them can run any '
                'code. If you trust where it comes from, set trust_checkpoint=True.'
            ) from error
        raise InputError(
            f'{file} is damaged, cut short, or not a PyTorch checkpoint ({type(error).__name__}). '
            'Use an earlier checkpoint, or copy or download the file again.'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{file} holds a {type(checkpoint).__name__}, not a checkpoint: a dict was expected.')
    return checkpoint


def save_checkpoint_file(
    obj: Any, path: str | os.PathLike, before_replace: Callable[[os.stat_result], Any] | None = None
) -> None:
    """Write a checkpoint; arguments and errors of :func:`mmmim.utils.atomic.write_atomically`."""
    write_atomically(path, lambda file: torch.save(obj, file), before_replace)


def check_state_dict(module: nn.Module, state_dict: Mapping[str, Any], what: str) -> None:
    """Compare a state dict with a module, strictly.

    Args:
        module: The module that should take it.
        state_dict: Names and tensors.
        what: How messages call the source, usually its path.

    Raises:
        InputError: Names are missing, unexpected, or their shapes differ.
    """
    own = module.state_dict()
    complaints = []
    if missing := [key for key in own if key not in state_dict]:
        complaints.append(f'{len(missing)} missing ({_few(missing)})')
    if unexpected := [key for key in state_dict if key not in own]:
        complaints.append(f'{len(unexpected)} unexpected ({_few(unexpected)})')
    wrong = [
        f'{key}: {_shape(state_dict[key])}, the model has {_shape(value)}'
        for key, value in own.items()
        if key in state_dict and _shape(state_dict[key]) != _shape(value)
    ]
    if wrong:
        complaints.append(f'{len(wrong)} of another shape ({_few(wrong, "; ")})')
    if complaints:
        raise InputError(
            f'{what} does not fit {type(module).__name__}, of {len(own)} parameters and buffers: '
            f'{", ".join(complaints)}. Use the config it was trained with, or the checkpoint of this config.'
        )


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], what: str) -> None:
    """Load a state dict strictly; arguments and errors of :func:`check_state_dict`.

    Torch decides first, because modules may adapt the keys of older versions with load hooks.
    """
    try:
        module.load_state_dict(state_dict)
    except RuntimeError as error:
        check_state_dict(module, state_dict, what)
        raise InputError(f'{what} does not fit {type(module).__name__}: {error}') from error


def _few(keys: list[str], separator: str = ', ', count: int = 5) -> str:
    return separator.join(keys[:count]) + (f'{separator}...' if len(keys) > count else '')


def _shape(value: Any) -> Any:
    return list(value.shape) if hasattr(value, 'shape') else type(value).__name__


def to_plain(obj: Any, left_out: list[str] | None = None, name: str = '') -> Any:
    """Copy nested data as what ``torch.load(weights_only=True)`` reads.

    Dicts, lists, tuples, strings, numbers, bools and None stay, tensors move to the CPU; numpy data becomes numbers and
    lists, paths strings, sets lists, classes their dotted name. Anything else is left out of what holds it.

    Args:
        obj: The data.
        left_out: Filled with the dotted names of what was left out.
        name: Dotted name of ``obj``.
    """
    plain = _to_plain(obj, [] if left_out is None else left_out, name)
    return None if plain is _LEFT_OUT else plain


def _to_plain(obj: Any, left_out: list[str], name: str) -> Any:
    if obj is None or isinstance(obj, bool | torch.dtype | torch.device):
        return obj
    if isinstance(obj, torch.Tensor):
        return obj.detach().cpu()
    kind: Any
    for kind in (str, int, float, bytes):  # also cuts subclasses such as enumerations and numpy.float64 down
        if isinstance(obj, kind):
            return kind(obj)
    if isinstance(obj, np.ndarray | np.generic):
        return _to_plain(obj.tolist(), left_out, name)
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    if isinstance(obj, type):
        return f'{obj.__module__}.{obj.__qualname__}'
    if isinstance(obj, Mapping):
        items = {_plain_key(k): _to_plain(v, left_out, f'{name}.{k}'.strip('.')) for k, v in obj.items()}
        return {key: value for key, value in items.items() if value is not _LEFT_OUT}
    if isinstance(obj, list | tuple | set | frozenset | deque):
        values = [_to_plain(value, left_out, f'{name}.{i}'.strip('.')) for i, value in enumerate(obj)]
        values = [value for value in values if value is not _LEFT_OUT]
        return tuple(values) if isinstance(obj, tuple) else values
    left_out.append(f'{name} ({type(obj).__name__})')
    return _LEFT_OUT


def _plain_key(key: Any) -> str | int:
    return int(key) if isinstance(key, int | np.integer) else str(key)
