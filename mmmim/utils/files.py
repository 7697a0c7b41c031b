"""Files from elsewhere: only regular ones are opened."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, 'a directory'),
    (stat.S_ISFIFO, 'a named pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, for reading, without waiting.

    Opening a named pipe waits for a writer, for ever if there is none, and opening a device may do something.

    Raises:
        OSError: It is something else, with a reason of one line, or cannot be opened.
    """
    _check_regular(os.stat(path))
    flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)
    file = os.fdopen(os.open(path, flags), 'rb')
    try:
        _check_regular(os.fstat(file.fileno()))  # it may have been exchanged
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: It is something else, too long, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(f'a file of {size} bytes, more than {limit}')
        return file.read(limit + 1)[:limit] if not size else file.read()


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), 'something else')
        raise OSError(f'not a regular file but {kind}')
