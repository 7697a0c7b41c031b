"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .errors import InputError

#: Of a file that is being written: its name, the process that writes it, and a random number.
_TEMPORARY = re.compile(r'(?P<name>.+)\.(?P<process>\d+)-[0-9a-f]{8}\.tmp')


def write_atomically(
    path: str | os.PathLike,
    write: Callable[[IO[bytes]], Any],
    before_replace: Callable[[os.stat_result], Any] | None = None,
) -> None:
    """Write a file so that ``path`` is at any moment either the old file or the complete new one.

    The new one is on the disk before it gets its name, and has a name of its own until then, so that two processes that
    write the same file never write into each other's.

    Args:
        path: The file; its folder is made.
        write: Writes the content into a binary file.
        before_replace: Called when the content is on the disk, with its size and times, which stay as they are.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    path = Path(path)
    # In the same folder, so that os.replace stays within the file system.
    temporary = path.with_name(f'{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'xb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if before_replace is not None:
            before_replace(os.stat(temporary))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        reason = disk_error(error)
        if reason is None:
            raise
        kept = f' The previous {path.name} is intact.' if path.exists() else ''
        raise InputError(f'{path} could not be written: {reason}. Make room or choose another folder.{kept}') from error


def write_text_atomically(text: str, path: str | os.PathLike) -> None:
    """Write a small text file as :func:`write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode()))


def remove_leftovers(folder: str | os.PathLike, ours: Callable[[str], bool]) -> list[str]:
    """Remove what killed processes have left of files that they were writing.

    Call it where no other process writes these files.

    Args:
        folder: Where they lie.
        ours: Whether a file of this name is one that may be cleaned up after.

    Returns:
        The names of what was removed.
    """
    removed = []
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            match = _TEMPORARY.fullmatch(name)
            if match and ours(match['name']):
                with suppress(OSError):
                    os.remove(os.path.join(folder, name))
                    removed.append(name)
    return removed


def disk_error(error: BaseException | None) -> str | None:
    """What the system said was wrong with a disk or a file, in lower case; None for errors of other kinds."""
    # torch's zip writer raises its own RuntimeError while it handles the OSError of the file.
    while error is not None:
        if isinstance(error, OSError):
            return (error.strerror or str(error)).lower()
        error = error.__cause__ or error.__context__
    return None


def _sync_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is on disk; some file systems refuse to sync one.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
