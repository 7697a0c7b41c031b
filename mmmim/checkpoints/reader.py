"""The one reader of checkpoint files: local, plain data, whole.

``torch.load(weights_only=True)`` runs no code, but it takes what a flipped bit has made of a tensor, and calls hostile
files damaged ones. Here every byte of a zip file, which is what torch writes, is compared with its
checksum, and what keeps a file from being plain data is called by its name.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import stat
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING  # how protocols up to 2 call the modules of Python 3
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.internals import module_versions, set_module_versions
from mmmim.utils.names import printable

from .archive import AGAIN, check_sizes
from .safetensors_file import is_safetensors, read_safetensors

#: How files with Python objects are read after all; messages name it.
TRUST = '--trust-checkpoint (tools) or trust_checkpoint=True (configs, mmmim.get_model)'
_TRUSTED: ContextVar[bool] = ContextVar('trusted', default=False)
_MOST_LEVELS = 100
_MOST_VALUES = 2_000_000
#: Modules, and functions of ``builtins``, that no saved object needs and attacks are made of.
_HOSTILE = frozenset(
    re.findall(
        r'\w+',
        """
        os posix nt posixpath ntpath subprocess sys pty shutil socket runpy importlib imp pkgutil ctypes commands
        webbrowser urllib http requests ftplib smtplib telnetlib asyncio multiprocessing threading signal pickle cPickle
        _pickle dill cloudpickle marshal shelve code codeop pdb bdb timeit trace profile cProfile doctest tempfile glob
        fileinput zipfile tarfile platform site sysconfig venv ensurepip pip setuptools types inspect gc builtins
        operator functools itertools linecache pydoc io _io
        """,
    )
)
#: Among them getattr, by which methods of objects such as mmengine's histories are saved.
_PLAIN_BUILTINS = frozenset(
    re.findall(
        r'\w+', 'set frozenset complex bytearray slice range object int float str bytes list dict tuple bool getattr'
    )
)
#: What torch itself writes for tensors.
_OF_TENSORS = re.compile(
    r'torch\.(_utils\.|_tensor\.|storage\.|\w+Storage$|Size$|device$|[a-z]+\d+$)|collections\.OrderedDict$'
)
_PLAIN_FUNCTIONS = frozenset(
    {'functools.partial', 'types.SimpleNamespace', 'io.BytesIO', '_io.BytesIO', 'io.StringIO', '_io.StringIO'}
)


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Whether files that are read inside may hold pickled Python objects, which can run any code.

    For what has no argument to say so: parts of models that load files when they are built. The config key
    ``trust_checkpoint`` of :class:`mmmim.engine.Runner` does this around the model.

    Args:
        trust: True to read them, False to refuse them.
    """
    token = _TRUSTED.set(bool(trust))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def load_checkpoint_file(
    path: str | os.PathLike, map_location: Any = 'cpu', trust: bool | None = None
) -> dict[str, Any]:
    """Read a local checkpoint file.

    Args:
        path: A local file, of torch or of safetensors (``.safetensors``). Nothing is downloaded.
        map_location: Where tensors are put, by default on the CPU: the argument of ``torch.load``. Those of safetensors
            are on the CPU.
        trust: Whether to read pickled Python objects too, which can run any code when they are loaded; None for what
            :func:`trusting` says, by default no.

    Returns:
        The content. Prefixes of names of weights that only wrappers have put there (``module.`` of data-parallel
        models, ``_orig_mod.`` of compiled ones) are gone.

    Raises:
        InputError: The file is missing, damaged (a byte of a zip file does not fit its checksum), hostile, holds other
            objects than tensors and plain data, or is not a dict.
    """
    file = local_file(path)
    if is_safetensors(file):  # which never holds objects
        return plain_content(read_safetensors(file), file, trust=False)
    trust = is_trusted(trust)
    with damage_explained(file):
        check_archive(file)
        checkpoint = torch.load(file, map_location=map_location, weights_only=not trust)
    return plain_content(checkpoint, file, trust)


def is_trusted(trust: bool | None) -> bool:
    """Whether files may hold pickled Python objects: as said, or else as :func:`trusting` says."""
    return _TRUSTED.get() if trust is None else trust


@contextmanager
def damage_explained(file: Path) -> Iterator[None]:
    """Turn what fails while a file is read inside into an :class:`InputError` that says what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Detected pickle protocol')
            warnings.filterwarnings('ignore', message='TypedStorage is deprecated')
            yield
    except InputError:
        raise
    except (PermissionError, torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(f'The checkpoint {file} cannot be read: {error or type(error).__name__}') from error
    except Exception as error:
        refused = _why_refused(file) if isinstance(error, pickle.UnpicklingError) else None
        raise InputError(
            refused or f'{file} is damaged, cut short, or not a PyTorch checkpoint ({type(error).__name__}). {AGAIN}'
        ) from error


def plain_content(checkpoint: Any, file: Path, trust: bool) -> dict[str, Any]:
    """What was read of a file, once its structure is known to be that of a checkpoint.

    Args:
        checkpoint: What ``torch.load`` gave.
        file: Where it comes from, for messages.
        trust: Whether it may hold Python objects.

    Returns:
        The same with names of weights as :func:`load_checkpoint_file` gives them.

    Raises:
        InputError: It is no dict, is nested without end, holds nested tensors, or names weights twice.
    """
    if not isinstance(checkpoint, dict):
        raise InputError(f'{file} holds a {type(checkpoint).__name__}, not a checkpoint: a dict was expected.')
    if not trust:
        _check_nesting(checkpoint, file)
    return _unwrapped_all(checkpoint, file)


def local_file(path: str | os.PathLike) -> Path:
    """A path, once it is sure that a local file is there.

    Raises:
        InputError: It is an address, a folder, a pipe or a device, or not there.
    """
    name = os.fspath(path)
    if '://' in name:
        raise InputError(f'{name}: checkpoints are read from local files only. Download it and give its path.')
    file = Path(name).expanduser()
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise InputError(f'The checkpoint {file} does not exist.') from None
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise InputError(f'The checkpoint {name[:100]!r} cannot be read: {error}') from error
    if stat.S_ISDIR(mode):
        raise InputError(f'{file} is a folder: give a checkpoint file inside it, such as {file / "iter_1000.pth"}.')
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise InputError(f'The checkpoint {file} is no regular file, but a pipe or a device.')
    return file


def check_archive(file: Path, whole: bool = True) -> list[zipfile.ZipInfo]:
    """Look at a zip file as torch writes it.

    Args:
        file: Other files than zip files have neither members nor checksums.
        whole: Compare every byte with its checksum, one MiB at a time; False leaves out the values of tensors, whose
            checksums :func:`damaged` then tells of.

    Returns:
        The members that hold values of tensors.

    Raises:
        InputError: It holds code, was not written by torch, a checksum does not fit, or a tensor is not as large as the
            member that has its values.
    """
    with open(file, 'rb') as stream:
        if stream.read(4) != b'PK\x03\x04':
            return []
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if any(name.rpartition('/')[2] == 'constants.pkl' for name in names):
            raise InputError(
                f'{file} is a TorchScript archive, which contains code, not a checkpoint: save the state_dict() of the '
                'model in it with torch.save, in a program of whoever made it.'
            )
        different = {name.lower() for name in names}  # torch finds members whatever the case of their names is
        if len(different) < len(names) or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise InputError(
                f'{file} was not written by torch.save: members of the archive are compressed or there twice. Save it '
                'again with torch.save.'
            )
        values = [member for member in members if re.search(r'(^|/)data/\d+$', member.filename)]
        left_out = set() if whole else {member.filename for member in values}
        for name in names:
            if name not in left_out and not _fits_its_checksum(archive, name):
                raise damaged(file, name)
        check_sizes(archive, file)
    return values


def _fits_its_checksum(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as member:
            while member.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def damaged(file: Path, member: str) -> InputError:
    """The error of a member of an archive that is not what it was when it was written."""
    return InputError(
        f'{file} is damaged: {printable(member)} in it does not fit its checksum, so at least one bit has changed '
        f'since it was saved. {AGAIN}'
    )


def _why_refused(file: Path) -> str | None:
    """What is wrong with a file that is no plain data; None where it names nothing unusual, so is damaged."""
    named = _named_objects(file)
    hostile = [name for name in named if _is_hostile(name)]
    if hostile:
        return (
            f'{file} is hostile: loading it would call {printable(hostile[0])}, which no checkpoint needs. Nothing of '
            'it was run; delete it, and load it with no other program either.'
        )
    objects = [name for name in named if not _OF_TENSORS.match(name)]
    if not objects:
        return None
    return (
        f'The checkpoint {file} contains Python objects ({printable(", ".join(objects[:3]))}), and loading '
        'them can run any code, so it was not read. '
        f'If you trust where it comes from: {TRUST}.'
    )


def _is_hostile(name: str) -> bool:
    module, _, attribute = name.partition('.')
    if module == 'builtins':
        return attribute not in _PLAIN_BUILTINS
    # An innocent module may have imported a hostile one: torch.serialization.os.
    return name not in _PLAIN_FUNCTIONS and (module in _HOSTILE or attribute.rpartition('.')[2] in _HOSTILE)


def _named_objects(file: Path) -> list[str]:
    """Dotted names of what the pickles of a file would import, found without unpickling anything."""
    with open(file, 'rb') as stream:
        content = stream.read(1 << 26)
    with suppress(zipfile.BadZipFile, OSError, StopIteration), zipfile.ZipFile(file) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith('data.pkl')))
    found: dict[str, None] = {}
    texts: list[str] = []
    start = 0
    with suppress(Exception):  # a hostile pickle need not be a well-formed one
        for _ in range(5):  # files of old versions hold several pickles
            end = start
            for opcode, argument, position in pickletools.genops(content[start:]):
                end = start + (position or 0) + 1
                if opcode.name in ('GLOBAL', 'INST'):
                    module, _, name = str(argument).partition(' ')
                    found[f'{IMPORT_MAPPING.get(module, module)}.{name}'] = None
                elif opcode.name == 'STACK_GLOBAL':  # of the two texts before it, which may have come from the memo
                    found['.'.join(texts[-2:])] = None
                    found.update(dict.fromkeys(f'{text}' for text in texts if text in _HOSTILE))
                elif isinstance(argument, str):
                    texts.append(argument)
            start = end
    return list(found)


def _check_nesting(checkpoint: Any, file: Path) -> None:
    """Refuse structures that whoever walks through them would never leave: they may contain themselves."""
    level, seen = [checkpoint], 0
    for _ in range(_MOST_LEVELS):
        below: list[Any] = []
        for node in level:
            children = node.values() if isinstance(node, Mapping) else node
            seen += len(children)
            if any(isinstance(child, Tensor) and child.is_nested for child in children):
                raise InputError(f'{file} holds nested tensors, which have no shape: no training saves any.')
            if seen > _MOST_VALUES:
                break
            below += [child for child in children if isinstance(child, dict | list | tuple | set | frozenset)]
        level = below
        if not level or seen > _MOST_VALUES:
            break
    if level:
        raise InputError(f'{file} is no checkpoint: what it holds is nested without end. {AGAIN}')


def _unwrapped_all(checkpoint: dict[str, Any], file: Path) -> dict[str, Any]:
    if _is_weights(checkpoint):
        return unwrapped(checkpoint, file)
    return {key: unwrapped(value, file) if _is_weights(value) else value for key, value in checkpoint.items()}


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and any(isinstance(each, Tensor) for each in value.values())
        and all(isinstance(key, str) for key in value)
    )


def unwrapped(weights: Mapping[str, Any], file: Any) -> Any:
    """Weights under the names of the model itself.

    Args:
        weights: Names and tensors.
        file: Where they come from, for messages.

    Returns:
        The same without ``module.`` in front, where all names have it, and without ``_orig_mod.`` anywhere.

    Raises:
        InputError: Two names become one.
    """
    names = {key: key for key in weights}
    while True:
        shorter = {key: re.sub(r'(^|\.)_orig_mod\.', r'\1', name) for key, name in names.items()}
        if all(name.startswith('module.') for name in shorter.values()):
            shorter = {key: name.removeprefix('module.') for key, name in shorter.items()}
        if shorter == names:
            break
        names = shorter
    if all(key == name for key, name in names.items()):
        return weights
    if len(set(names.values())) < len(names):
        raise InputError(f'{file} holds weights twice, with and without the prefix module. or _orig_mod.')
    result = OrderedDict((names[key], value) for key, value in weights.items())
    if isinstance(versions := module_versions(weights), Mapping):
        strip = re.compile(r'^(module\.|_orig_mod\.)+')
        names_of_modules = (strip.sub('', f'{key}.'.replace('._orig_mod.', '.')).removesuffix('.') for key in versions)
        set_module_versions(result, OrderedDict(zip(names_of_modules, versions.values(), strict=True)))
    return result
