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


_FLAGS = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, for reading, without waiting.

    Opening a named pipe waits for a writer, for ever if there is none, and opening a device may do something.

    Raises:
        OSError: It is something else, with a reason of one line, or cannot be opened.
    """
    return os.fdopen(_open(path)[0], 'rb')


def read_regular(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: It is something else, too long, or cannot be read.
    """
    descriptor, size = _open(path)
    try:
        if size > limit:
            raise OSError(f'a file of {size} bytes, more than {limit}')
        pieces = [os.read(descriptor, size + 1)]  # one read, unless it grows or is very long
        while pieces[-1] and sum(map(len, pieces)) != size:
            if sum(map(len, pieces)) > limit:
                raise OSError(f'a file of more than {limit} bytes')
            pieces.append(os.read(descriptor, 1 << 20))
        return pieces[0] if len(pieces) == 1 else b''.join(pieces)
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike) -> tuple[int, int]:
    """Descriptor and size of a regular file."""
    _check_regular(os.stat(path))
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        _check_regular(status)  # it may have been exchanged
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), 'something else')
        raise OSError(f'not a regular file but {kind}')
