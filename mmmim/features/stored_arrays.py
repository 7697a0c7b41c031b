"""Arrays on disk that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically

META = 'meta.json'


@dataclass(frozen=True)
class ArraySpec:
    """Shape and type of an array, samples first."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class StoredArrays:
    """A folder of ``.npy`` files, named by what they were made from.

    Other contents have another folder, so nothing that lies there is ever out of date. While it is written, the folder
    has another name; what a killed process leaves under that name is overwritten by the next.

    Args:
        root: Where such folders lie; several machines need one that they share.
        kind: First part of the name.
        key: What the arrays were made from, as JSON data.
        arrays: Shape and type of each array, by name.
    """

    def __init__(self, root: Path, kind: str, key: Mapping[str, Any], arrays: Mapping[str, ArraySpec]) -> None:
        self.key, self.arrays = dict(key), dict(arrays)
        digest = hashlib.sha256(json.dumps(self._meta(), sort_keys=True).encode()).hexdigest()[:20]
        self.folder = root / f'{kind}-{digest}'
        self.partial = root / f'.{kind}-{digest}.partial'

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(spec.nbytes for spec in self.arrays.values())

    def exists(self) -> bool:
        """Whether there is such a folder, intact or not."""
        return self.folder.exists()

    def damage(self) -> str | None:
        """What is wrong with the folder, or None."""
        try:
            found = json.loads((self.folder / META).read_text())
        except (OSError, ValueError):
            return f'{META} is missing or unreadable'
        if found != self._meta():
            return f'{META} describes other arrays'
        for name, spec in self.arrays.items():
            try:
                array = self._open(self.folder / f'{name}.npy')
            except Exception as error:  # NumPy reads headers as Python text: damaged ones fail in every way
                return f'{name}.npy: {type(error).__name__}: {error}'
            if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
                return f'{name}.npy holds {array.dtype} {list(array.shape)}'
        return None

    def read(self) -> dict[str, np.ndarray]:
        """The arrays, mapped into memory.

        Raises:
            InputError: They are damaged.
        """
        damage = self.damage()
        if damage:
            raise InputError(f'{self.folder} is damaged ({damage}): delete the folder, it will be made anew.')
        return {name: self._open(self.folder / f'{name}.npy') for name in self.arrays}

    @contextlib.contextmanager
    def write(self) -> Iterator[Writer]:
        """Make the folder, by all processes; it appears when the last of them leaves the context.

        Waits for another run that writes it. What that one made stays, and what is written here is dropped. Whether
        there is room for it is for :func:`check_space` to say, once for all that is written together.

        Raises:
            InputError: It cannot be written.
        """
        lock = self._start() if is_main_process() else None
        try:
            barrier()
            with contextlib.closing(Writer(self.partial, self.arrays)) as writer:
                yield writer
            barrier()
            if is_main_process():
                self._finish()
            barrier()
        except BaseException as error:
            if is_main_process():
                shutil.rmtree(self.partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        finally:
            if lock is not None:
                lock.close()

    def _start(self) -> IO[str]:
        """Make the files, at their full size but without blocks on the disk; returns the lock."""
        try:
            lock = lock_folder(self.partial)
            for name, spec in self.arrays.items():
                np.lib.format.open_memmap(self.partial / f'{name}.npy', 'w+', np.dtype(spec.dtype), spec.shape)
        except OSError as error:
            raise self._failed(error) from error
        return lock

    def _finish(self) -> None:
        if self.damage() is None:  # of another run
            shutil.rmtree(self.partial)
            return
        write_text_atomically(json.dumps(self._meta(), indent=1) + '\n', self.partial / META)
        shutil.rmtree(self.folder, ignore_errors=True)  # a damaged one
        os.replace(self.partial, self.folder)

    def _failed(self, error: OSError) -> InputError:
        return InputError(
            f'{self.folder} could not be written ({error.strerror or error}); it needs {_size(self.nbytes)}: free some '
            'space, or put the cache elsewhere (test_cfg.cache.folder).'
        )

    def _meta(self) -> dict[str, Any]:
        arrays = {name: [list(spec.shape), spec.dtype] for name, spec in self.arrays.items()}
        return json.loads(json.dumps({'key': self.key, 'arrays': arrays}))

    @staticmethod
    def _open(path: Path) -> np.ndarray:
        return np.lib.format.open_memmap(path, 'r')


class Writer:
    """Writes rows into the files of a :class:`StoredArrays`, each process its own.

    By ordinary writes: a full disk is then an error, which in a mapped file would be a signal.

    Args:
        folder: Folder that the files are in.
        arrays: What they hold.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, ArraySpec]) -> None:
        self._arrays = arrays
        self._offsets = {name: np.lib.format.open_memmap(folder / f'{name}.npy', 'r').offset for name in arrays}
        self._files = {name: open(folder / f'{name}.npy', 'r+b') for name in arrays}  # noqa: SIM115

    def write(self, name: str, start: int, rows: np.ndarray) -> None:
        """Write ``rows`` from row ``start`` on."""
        spec, file = self._arrays[name], self._files[name]
        assert rows.shape[1:] == spec.shape[1:], (rows.shape, spec.shape)
        data = np.ascontiguousarray(rows, dtype=spec.dtype)
        file.seek(self._offsets[name] + start * (data.nbytes // len(data)))
        file.write(data)

    def sync(self, name: str) -> None:
        """Bring what was written of an array to the disk."""
        self._files[name].flush()
        os.fsync(self._files[name].fileno())

    def close(self) -> None:
        """Bring everything to the disk."""
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        finally:
            for file in self._files.values():
                with contextlib.suppress(OSError):  # what could not be flushed
                    file.close()


def check_space(folder: Path, nbytes: int) -> None:
    """Make a folder, and refuse to write more into it than its disk has room for.

    Raises:
        InputError: The disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise InputError(
            f'{folder} needs {_size(nbytes)} and the disk has {_size(free)}: free some, or put the cache elsewhere '
            '(test_cfg.cache.folder).'
        )


def lock_folder(folder: Path) -> IO[str]:
    """Make a folder that no other run writes; held until it is closed, also by the end of the process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / 'lock'
        lock = open(path, 'w')  # noqa: SIM115
        try:
            import fcntl  # not on Windows
        except ImportError:
            return lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_log(f'Another run writes {folder}: waiting until it has finished.', 'current')
            fcntl.flock(lock, fcntl.LOCK_EX)
        # The other run has renamed or deleted the folder.
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(lock.fileno())):
            return lock
        lock.close()


def _size(nbytes: int) -> str:
    return f'{nbytes / 2**30:.1f} GiB' if nbytes >= 2**30 else f'{nbytes / 2**20:.1f} MiB'
