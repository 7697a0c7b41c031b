"""Whether the files of a data set are those of before, without a look at each of a million."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmmim.utils.atomic import write_text_atomically

#: Files whose size and time are looked at every time; of more files, as many in even steps.
SAMPLE = 4096


def _state(path: str) -> str:
    """Path, size and time of the last change; the path alone where there is no file."""
    try:
        stat = os.stat(path)
    except OSError:
        return path
    return f'{path} {stat.st_size} {stat.st_mtime_ns}'


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f'{line}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()


def files_digest(paths: Sequence[str], store: Path | None = None, exact: bool = False) -> str:
    """A hash of names, sizes and times of files.

    To look at a million files takes half a minute on a local disk. So the hash of many files is kept, together with the
    times of their folders, which change when a file comes, goes or is replaced by another, and with sizes and times of
    :data:`SAMPLE` of them. While these are the same it is taken from there. What this does not notice is a file,
    outside of the sample, that was written to in its place.

    Args:
        paths: Paths of the files, in the order of the data set.
        store: Folder where hashes are kept; None: look at every file.
        exact: Look at every file, and keep what was found.

    Returns:
        Hexadecimal digits. Those of :data:`SAMPLE` files or fewer are always exact.
    """
    if store is None or len(paths) <= SAMPLE:
        return _digest(map(_state, paths))
    folders = sorted({os.path.dirname(path) for path in paths})
    seen = {
        'folders': _digest(map(_state, folders)),
        'sample': _digest(_state(paths[i * len(paths) // SAMPLE]) for i in range(SAMPLE)),
    }
    kept = store / f'files-{_digest(paths)[:20]}.json'
    if not exact and (found := _kept(kept, seen)) is not None:
        return found
    digest = _digest(map(_state, paths))
    store.mkdir(parents=True, exist_ok=True)
    write_text_atomically(json.dumps({**seen, 'digest': digest}) + '\n', kept)
    return digest


def _kept(file: Path, seen: dict[str, str]) -> str | None:
    """The hash in a file, if what was seen then is what is seen now."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored: Any = json.loads(file.read_text())
        if {**stored, **seen} == stored and isinstance(stored['digest'], str):
            return stored['digest']
    return None
