"""Standard output that may lie on a full disk, or lead to a process that is gone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class _Forgiving(io.FileIO):
    """A file that drops what it cannot write, and says so once on the other standard stream."""

    told = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if not _Forgiving.told:
                _Forgiving.told = True
                reason = (error.strerror or str(error)).lower()
                with contextlib.suppress(OSError):
                    os.write(3 - self.fileno(), f'WARNING: the output cannot be written: {reason}.\n'.encode())
            return len(data)


def _descriptor(stream: io.TextIOWrapper) -> int | None:
    """The number of the file of a stream; None of one that lies in memory."""
    with contextlib.suppress(OSError):
        return stream.fileno()
    return None


def keep_writing() -> None:
    """Let ``print``, also that of libraries, end no program because nobody can take what it says.

    For programs that do more than print: a training goes on, and its log is in its work folder.
    """
    for name, number in (('stdout', 1), ('stderr', 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _descriptor(stream) == number:
            forgiving = io.TextIOWrapper(
                io.BufferedWriter(_Forgiving(number, 'w', closefd=False)),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            stream.flush()
            setattr(sys, name, forgiving)
