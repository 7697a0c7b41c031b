"""Files that the config of a model names: read as plain data, and loaded strictly or not at all.

mmengine's own loader runs pickles when a file is no plain data, downloads, and only logs what does not fit. Models
reach it by ``init_cfg=dict(type='Pretrained', ...)``, by arguments such as ``pretrained``, and in code of their own.
"""

from __future__ import annotations

import inspect
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from torch import nn

from mmmim.checkpoints import load_checkpoint_file, load_state_dict, trusting, weights_of
from mmmim.checkpoints.reader import TRUST
from mmmim.checkpoints.stored_config import find_registered
from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.utils import InputError
from mmmim.utils.internals import notes_initialisation, replaced_loader
from mmmim.utils.nested import dicts, under

_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_CLASSIFIER = re.compile(r'(head|head_dist|fc|fc_norm|classifier)\.')


@contextmanager
def plain_files(trust: bool) -> Iterator[None]:
    """Let no code inside read more than plain data of local files, whichever way it reads them.

    mmengine's loader becomes :func:`mmmim.checkpoints.load_checkpoint_file`, and every ``torch.load`` has
    ``weights_only=True``.

    Args:
        trust: Whether files may hold pickled Python objects all the same.

    Raises:
        InputError: A file holds other things.
    """
    before = os.environ.get(_FORCE)
    if not trust:
        os.environ[_FORCE] = '1'
    try:
        with replaced_loader(_read), trusting(trust):
            yield
    except pickle.UnpicklingError as error:
        raise InputError(
            f'model: a file that the config names holds Python objects, and loading them can run any code ({error}). '
            f'If you trust where it comes from: {TRUST}.'
        ) from error
    finally:
        if not trust:
            os.environ.pop(_FORCE)
            if before is not None:
                os.environ[_FORCE] = before


def _read(filename: str, map_location: Any = None, **_: Any) -> dict[str, Any]:
    return load_checkpoint_file(filename, map_location or 'cpu')


@contextmanager
def strict_init_cfg(model: nn.Module) -> Iterator[None]:
    """Load what ``init_cfg`` of a model and its parts names strictly, while its weights are initialised.

    A part has its weights from the file when its own ``init_weights`` is done, so that what its parents make of them
    (a teacher that copies the student) is made of these.

    Args:
        model: The model whose ``init_weights`` is called inside.

    Raises:
        InputError: A file is missing, damaged or no plain data, or does not fit the part, naming both; or ``init_cfg``
            names a file in a way that cannot be followed.
    """
    waiting = {}
    for name, part in model.named_modules():
        if files := _take_files(part, name):
            waiting[name] = part
            _load_afterwards(part, name, files, waiting)
    yield
    for part in list(waiting.values()):  # whose parents leave the weights of their parts alone
        part.__dict__.pop('init_weights', lambda: None)()


def without_files(model: dict[str, Any]) -> dict[str, Any]:
    """The config of a model without the files that it starts from, in place.

    A checkpoint that has the weights does not say where they came from: none is built from a file that it names.
    """
    for part in dicts(model):
        kind = find_registered(part['type']) if isinstance(part.get('type'), str) else None
        if isinstance(kind, type) and issubclass(kind, WrappedEncoder):
            part.pop('weights', None)
        entries = part.get('init_cfg')
        if isinstance(entries, Mapping | list | tuple):
            listed = [entries] if isinstance(entries, Mapping) else list(entries)
            rest = [entry for entry in listed if not (isinstance(entry, Mapping) and _loads(entry))]
            if len(rest) < len(listed):
                part['init_cfg'] = rest or None
    return model


def _take_files(part: nn.Module, name: str) -> list[Mapping[str, Any]]:
    """Entries of ``init_cfg`` that name a file, which are removed from it."""
    entries = getattr(part, 'init_cfg', None)
    if not entries or not isinstance(entries, Mapping | list | tuple):
        return []
    entries = [entries] if isinstance(entries, Mapping) else list(entries)
    files = [entry for entry in entries if isinstance(entry, Mapping) and _loads(entry)]
    rest = [entry for entry in entries if not (isinstance(entry, Mapping) and _loads(entry))]
    for entry in rest:
        inner = entry.get('override') if isinstance(entry, Mapping) else None
        if any(_loads(each) for each in (inner if isinstance(inner, list) else [inner]) if isinstance(each, Mapping)):
            raise InputError(
                f'{_key(name)}.override loads a file into a part of {type(part).__name__}: set init_cfg of that part.'
            )
    if files:
        part.init_cfg = rest or None
    return files


def _loads(entry: Mapping[str, Any]) -> bool:
    """Whether an initialiser loads a file, however it is spelled."""
    kind = entry.get('type')
    if isinstance(kind, str):
        if kind.rpartition('.')[2] in ('Pretrained', 'PretrainedInit', 'Pretrained_Part'):
            return True
        kind = find_registered(kind, 'WEIGHT_INITIALIZERS')
    return inspect.isclass(kind) and issubclass(kind, PretrainedInit)


def _load_afterwards(part: Any, name: str, files: list[Mapping[str, Any]], waiting: dict[str, Any]) -> None:
    original = part.init_weights if hasattr(part, 'init_weights') else lambda: None

    def init_weights() -> None:
        part.__dict__.pop('init_weights', None)
        waiting.pop(name, None)
        original()
        for entry in files:
            _load(part, name, entry)

    part.__dict__['init_weights'] = init_weights


def _load(part: nn.Module, name: str, entry: Mapping[str, Any]) -> None:
    path, prefix, key = entry.get('checkpoint'), entry.get('prefix') or '', _key(name)
    if not isinstance(path, str | os.PathLike) or not isinstance(prefix, str):
        raise InputError(f"{key}: write dict(type='Pretrained', checkpoint=FILE, prefix='backbone.'), not {entry}.")
    try:
        checkpoint = load_checkpoint_file(path)
    except InputError as error:
        raise InputError(f'{key}: {error}') from error
    inner = checkpoint.get('model')
    whole = weights_of(inner if isinstance(inner, Mapping) else checkpoint, str(path))
    if prefix:
        prefix = prefix.rstrip('.') + '.'
    inside = under(whole, prefix)
    if not inside:
        first = ', '.join(list(whole)[:3])
        raise InputError(f'{key}: {path} has no weights under {prefix}*, but such as {first}. Correct init_cfg.prefix.')
    own = part.state_dict()
    fitting = {name: value for name, value in inside.items() if name in own or not _CLASSIFIER.match(name)}
    what = f'{key}: {path}' + (f' ({prefix}*)' if prefix else '')
    load_state_dict(part, fitting, what)
    left_out = len(whole) - len(fitting)
    print_log(f'{what}: loaded {len(fitting)} tensors, {left_out} of other parts left out.', logger='current')
    if notes_initialisation(part):
        update_init_info(part, init_info=f'Loaded from {path}')


def _key(name: str) -> str:
    return f'model.{name}.init_cfg' if name else 'model.init_cfg'
