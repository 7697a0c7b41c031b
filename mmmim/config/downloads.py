"""Published weights on this machine: downloaded once, and compared with what they were ever after."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout  # torch needs it

from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.download import download
from mmmim.utils.files import open_regular, read_regular

from .weights import PublishedWeights

#: Seconds for which a process waits for a first one of its machine that seems to do nothing, and between two looks.
IDLE, LOOK = 300.0, 0.5


class _NotTheFile(InputError):
    """Another download of the same address would not help."""


def weights_folder() -> Path:
    """Where published weights lie: in ``$MMMIM_HOME``, or with those of torch hub, which hold the same files."""
    if home := os.environ.get('MMMIM_HOME'):
        return Path(home).expanduser().absolute() / 'weights'
    from torch.hub import get_dir

    return Path(get_dir()).absolute() / 'checkpoints'


class LocalWeights:
    """A published file on this machine, and what was made of it, in one folder.

    ``FILE.mmmim.json`` beside the file records what it was when it was first used: the hash of the file, which is
    compared with what the publisher states, and the hashes of the files that were made of it.

    Args:
        weights: Row of the table.

    Attributes:
        weights: Row of the table.
        path: Where the published file lies, or belongs.
    """

    def __init__(self, weights: PublishedWeights) -> None:
        self.weights = weights
        self.path = weights_folder() / weights.file
        self._record_path = self.path.with_name(f'{self.path.name}.mmmim.json')

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the published file as recorded at its first use; None before."""
        return self._record().get('sha256')

    def fetch(self) -> Path:
        """The published file, downloaded if it is not there.

        Raises:
            InputError: It cannot be downloaded (naming the file and its place), is not what the publisher states, or is
                not what it was when it was first used.
        """
        if not self._is_there():
            with self.alone(self._is_there):
                if not self._is_there():
                    self._download()
        self._check_source(self.path)
        return self.path

    def made(self, name: str, make: Callable[[Path, Path], Any]) -> Path:
        """A file that is made of the published one, once.

        Args:
            name: Name of the file to be made, which says of what it is made and how.
            make: Called with the published file and the path of the one to be made.

        Raises:
            InputError: As :meth:`fetch`, or the file that was made has changed since.
        """
        path = self.path.with_name(name)

        def is_there() -> bool:
            return path.is_file() and name in self._made()

        if not is_there():
            self.fetch()
            with self.alone(is_there):
                if not is_there():
                    make(self.path, path)
                    self._write_record({**self._record(), 'made': {**self._made(), name: file_sha256(path)}})
        if (found := file_sha256(path)) != self._made()[name]:
            raise InputError(
                f'{path} has changed since it was made: its SHA-256 is {found}, not {self._made()[name]}. Delete it, '
                f'and it is made again of {self.path.name}.'
            )
        return path

    @contextmanager
    def alone(self, is_done: Callable[[], bool]) -> Iterator[None]:
        """Let one process at a time do what is inside, and of the processes of a run on one machine the first.

        Args:
            is_done: Whether there is nothing left to do, which is what other processes wait for.

        Raises:
            InputError: The folder cannot be written, or the first process has not done it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f'{self.path}.lock')
            if _is_first():
                self._acquire(lock)
            else:
                self._wait(lock, is_done)
        except OSError as error:
            raise InputError(
                f'{self.path.parent} cannot be written ({(error.strerror or str(error)).lower()}): name another folder '
                f'for {self.path.name} by MMMIM_HOME.'
            ) from error
        try:
            yield
        finally:
            lock.release(force=True)

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f'Waiting for another process that has {self.path.name} in work.', file=sys.stderr)
            lock.acquire()

    def _wait(self, lock: FileLock, is_done: Callable[[], bool]) -> None:
        """Until the first process of this machine has done it."""
        idle_since = time.monotonic()
        while not is_done():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                idle_since = time.monotonic()
            else:
                lock.release()
                if time.monotonic() - idle_since > IDLE:
                    raise InputError(f'The first process on this machine has not brought {self.path}.')
            time.sleep(LOOK)

    def _is_there(self) -> bool:
        return self.path.is_file() and self.sha256 is not None

    def _download(self) -> None:
        weights = self.weights
        if self.path.is_file():  # somebody has put it there
            self._check_source(self.path)
        elif weights.url is None:
            raise InputError(
                f'{weights.name} cannot be downloaded by a program: open {weights.source} in a browser, download the '
                f'file and put it at {self.path}. Licence: {weights.licence}.'
            )
        else:
            print(f'{weights.name}: {weights.what}, {weights.source}. Licence: {weights.licence}.', file=sys.stderr)
            try:
                download(weights.url, self.path, self._check_source)
            except _NotTheFile:
                raise
            except InputError as error:
                raise InputError(
                    f'{error} {weights.name} needs the file {weights.url}: download it elsewhere and put it at '
                    f'{self.path}, or give the path of a checkpoint.'
                ) from error
        self._write_record({'url': weights.url, 'sha256': file_sha256(self.path), 'bytes': self.path.stat().st_size})

    def _check_source(self, path: Path) -> None:
        """Compare a file with what the publisher states and with what it was."""
        found, stated, before = file_sha256(path), self.weights.sha256, self.sha256
        if not found.startswith(stated):
            raise _NotTheFile(
                f'{path} is not the file of {self.weights.name} and is not used: its SHA-256 is {found}, and the '
                f'publisher states one that begins with {stated}. If another download of {self.weights.url} gives the '
                'same, that is not what was published.'
            )
        if before is not None and found != before:
            raise InputError(
                f'{path} has changed since it was first used: its SHA-256 is {found}, and it was {before}. Delete it, '
                f'and it is downloaded again; if the change is wanted, delete {self._record_path.name} beside it.'
            )

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads(read_regular(self._record_path, 1 << 20))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            record = None
        made = record.get('made', {}) if isinstance(record, dict) else None
        hashes = [record.get('sha256'), *made.values()] if isinstance(made, dict) else [None]
        if not all(isinstance(value, str) and re.fullmatch('[0-9a-f]{64}', value) for value in hashes):
            raise InputError(
                f'{self._record_path} is damaged: it should hold the hash of {self.path.name}. Delete both, and the '
                'file is downloaded again.'
            )
        return record

    def _made(self) -> dict[str, str]:
        return self._record().get('made', {})

    def _write_record(self, record: dict[str, Any]) -> None:
        write_text_atomically(json.dumps(record, indent=2) + '\n', self._record_path)


def _is_first() -> bool:
    """Whether this is the only process of a run on its machine, or the first, as its launcher says."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) in ('0', '')


_HASHES: dict[tuple[Any, ...], str] = {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read once as long as it keeps its identity, size and time."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if key not in _HASHES:
            found = hashlib.sha256()
            while part := file.read(1 << 20):
                found.update(part)
            _HASHES[key] = found.hexdigest()
    return _HASHES[key]
