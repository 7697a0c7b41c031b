"""One training in a folder at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = '.lock'
#: Seconds between signs of life, and without one after which a process that cannot be asked counts as dead.
HEARTBEAT, DEAD_AFTER = 10.0, 120.0
# A link or a pipe of this name is not written to, and not waited for.
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)


class FolderLock:
    """A file that says which process writes a folder.

    Where the file system has locks, the operating system says whether the holder lives: a lock ends with its process,
    however that ends. Some network file systems have none, or none that other machines see. Therefore the file also
    says machine, process and time, and the holder touches it every :data:`HEARTBEAT` seconds: a process of this machine
    that does not exist any more is dead, and so is one of another machine without a sign of life for
    :data:`DEAD_AFTER` seconds, by the clock of the file system. So long is waited for a sign.

    Args:
        folder: An existing folder.
        force: Take it also from a process that seems to live.
    """

    def __init__(self, folder: str | os.PathLike, force: bool = False) -> None:
        self.path, self.force = Path(folder) / LOCK, force
        self._descriptor: int | None = None
        self._stop = threading.Event()
        self._process = 0

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InputError: Another process has it, or the folder cannot be written.
        """
        try:
            self._descriptor = self._take()
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, json.dumps(_about_this_process()).encode())
        except OSError as error:
            if self._descriptor is not None and stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                with contextlib.suppress(OSError):
                    os.remove(self.path)
            self._close()
            raise InputError(f'{self.path} cannot be written: {(error.strerror or str(error)).lower()}.') from error
        self._process = os.getpid()
        # A forked worker shares the lock: without this it would keep it when the training is killed.
        if hasattr(os, 'register_at_fork'):
            os.register_at_fork(after_in_child=self._close)
        threading.Thread(target=self._beat, args=(self._descriptor,), daemon=True).start()

    def release(self) -> None:
        """Give the lock back and delete its file; in the process that has taken it, and no other."""
        if self._descriptor is None or self._process != os.getpid():
            return
        self._stop.set()
        with contextlib.suppress(OSError):
            if self._is_in_place(self._descriptor):  # nobody has taken it by force
                os.remove(self.path)
        self._close()

    def _take(self) -> int:
        """Open the file of the lock; waits where only time tells whether its holder lives."""
        first_sign: float | None = None
        unnamed = 0
        while True:
            descriptor = os.open(self.path, _OPEN, 0o644)
            try:
                locks = self._try_lock(descriptor)
                holder, sign = _read(descriptor), os.fstat(descriptor).st_mtime
                if not self._is_in_place(descriptor):  # deleted by its holder just now
                    pass
                elif locks is False and holder is None and unnamed < 20:  # taken just now, and not yet signed
                    unnamed += 1
                elif locks is not False and self._is_free(holder, sign, known=bool(locks)):
                    return descriptor
                elif self.force:
                    os.remove(self.path)  # the other keeps a file without a name
                elif locks is False or not _elsewhere(holder) or sign != (first_sign or sign):
                    raise InputError(self._taken(holder))
                else:
                    if first_sign is None:
                        first_sign = sign
                        print(f'{self._taken(holder)} Waiting up to {DEAD_AFTER:.0f} s for a sign of it.', flush=True)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            time.sleep(0.05 if first_sign is None else 1.0)

    @staticmethod
    def _try_lock(descriptor: int) -> bool | None:
        """Whether the operating system gives the lock; None where it has none."""
        if fcntl is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return None
        return True

    def _is_free(self, holder: dict[str, str] | None, sign: float, known: bool) -> bool:
        """Whether the process that has signed the file is dead, given that no lock is in the way."""
        if holder is None or (known and not _elsewhere(holder)):
            return True
        return _is_dead(holder) or self._now() - sign >= DEAD_AFTER

    def _now(self) -> float:
        """The time by the clock that dates the files."""
        probe = self.path.with_name(f'{LOCK}.{os.getpid()}')
        probe.write_bytes(b'')
        try:
            return os.stat(probe).st_mtime
        finally:
            probe.unlink()

    def _is_in_place(self, descriptor: int) -> bool:
        """Whether the open file still has its name: another process may have deleted it in between."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _taken(self, holder: dict[str, str] | None) -> str:
        holder = holder or {}
        return (
            f'{self.path.parent} is in use by another training, process {holder.get("pid", "unknown")} on '
            f'{holder.get("host", "an unknown machine")}, since {holder.get("since", "just now")}: stop it or wait for '
            'its end, or take another --work-dir (--force-lock if you know that it is dead).'
        )

    def _beat(self, descriptor: int) -> None:
        while not self._stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(descriptor if os.utime in os.supports_fd else self.path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def locked(folder: str | os.PathLike, force: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; arguments and errors of :class:`FolderLock`."""
    lock = FolderLock(folder, force)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _about_this_process() -> dict[str, str | int]:
    since = time.strftime('%Y-%m-%d %H:%M:%S %Z')
    return {'host': socket.gethostname(), 'pid': os.getpid(), 'since': since}


def _read(descriptor: int) -> dict[str, str] | None:
    """What a lock's file says; None where nobody has written anything."""
    with contextlib.suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = json.loads(os.read(descriptor, 4096))
        if isinstance(holder, dict) and 'host' in holder:
            # From a file: nothing in it forges lines of a log.
            return {key: str(value)[:80].encode('unicode_escape').decode() for key, value in holder.items()}
    return None


def _elsewhere(holder: dict[str, str] | None) -> bool:
    return holder is not None and holder.get('host') != socket.gethostname()


def _is_dead(holder: dict[str, str]) -> bool:
    """Whether a process of this machine does not exist any more; False where that cannot be asked."""
    if _elsewhere(holder) or os.name == 'nt' or not holder.get('pid', '').isdecimal():
        return False
    try:
        os.kill(int(holder['pid']), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
