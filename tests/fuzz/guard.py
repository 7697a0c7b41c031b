"""What a process must not do while it reads a file: run, write, delete, connect, open or import anything else."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events of ``sys.audit`` that no reader of a file has a reason for, by the module that they are of, and exceptions.
_FORBIDDEN = {'os', 'subprocess', 'shutil', 'socket', 'tempfile', 'urllib', 'webbrowser', 'pty', 'pickle', 'ctypes'}
_HARMLESS = {'os.listdir', 'os.scandir', 'os.getxattr', 'os.listxattr', 'os.walk'}


class Guard:
    """Watches this process; hooks of ``sys.addaudithook`` stay until it ends.

    Args:
        sandbox: A folder: of what lies in it, only the files of the case may be opened.
    """

    def __init__(self, sandbox: str) -> None:
        self.sandbox = os.path.realpath(sandbox)
        self.seen: list[str] | None = None
        self.files: set[str] = set()
        self.known, self.modules = {name.partition('.')[0] for name in sys.modules}, len(sys.modules)
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self, files: Iterable[str]) -> Iterator[list[str]]:
        """Collects what happens that must not."""
        self.files, self.seen = {os.path.realpath(file) for file in files}, []
        try:
            yield self.seen
        finally:
            if len(sys.modules) != self.modules:
                new = {name.partition('.')[0] for name in sys.modules} - self.known
                self.seen += [f'import of {name}' for name in sorted(new)]
                self.known, self.modules = self.known | new, len(sys.modules)
            self.seen = None

    def _hook(self, event: str, args: tuple) -> None:
        if self.seen is None:
            return
        if event.partition('.')[0] in _FORBIDDEN and event not in _HARMLESS:
            self.seen.append(f'{event} {args!r:.200}')
        elif event == 'open':
            self._open(*args)

    def _open(self, path: object, mode: object, flags: int) -> None:
        if isinstance(path, int) or path == os.devnull:
            return
        full = os.path.realpath(os.fsdecode(path))
        if (isinstance(mode, str) and set(mode) & set('wax+')) or flags & _WRITING:
            self.seen.append(f'writing of {full}')
        elif full.startswith(self.sandbox) and full not in self.files:
            self.seen.append(f'reading of {full}')
