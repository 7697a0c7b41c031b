"""Signals that ask a process to stop: a training finishes its step and saves, everything else ends at once.

The exit status is 128 + the number of the signal, as shells have it: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1,
129 for SIGHUP. A second Ctrl-C ends the process where it is.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: Signals that ask to stop, as far as the platform has them.
STOPPING = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGHUP') if hasattr(signal, name))
#: Seconds that a process which has nothing to save has for ending by itself, before it is ended.
GRACE = 10.0


class Stopped(SystemExit):
    """A signal ended this: the process ends with status 128 + signal unless this is caught.

    Args:
        signum: Number of the signal.
        message: A line for the user; empty if it was said already.
        together: Whether all processes of a distributed training end here.
    """

    def __init__(self, signum: int, message: str = '', together: bool = False) -> None:
        super().__init__(128 + signum)
        self.signum, self.message, self.together = signum, message, together


class _State:
    """Of this process."""

    handled = False
    first: int | None = None
    deferred = False


def requested() -> int:
    """The signal that has asked this process to stop, 0 if none has."""
    return _State.first or 0


def name_of(signum: int) -> str:
    """What people call a signal."""
    return 'Ctrl-C' if signum == signal.SIGINT else signal.Signals(signum).name


@contextmanager
def handled() -> Iterator[None]:
    """Raise :class:`Stopped` at signals that ask to stop, unless :func:`defer` was called; may be nested.

    Signals that the process was started to ignore stay ignored (as ``nohup`` does). In other threads than the main
    one nothing happens, since Python handles signals there.
    """
    if _State.handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.handled, _State.first, _State.deferred = True, None, False
    before = {s: signal.getsignal(s) for s in STOPPING}
    before = {s: handler for s, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    watcher = _Watcher()
    for signum in before:
        signal.signal(signum, _handle)
    try:
        yield
    except Stopped:
        # The process ends: what comes late, such as the SIGTERM of a launcher, must not change its status.
        before = {s: signal.SIG_DFL if s == signal.SIGINT else signal.SIG_IGN for s in before}
        raise
    finally:
        watcher.close()
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _State.handled = _State.deferred = False


@contextmanager
def training() -> Iterator[None]:
    """Handle signals inside; from :func:`defer` on, they only set what :func:`requested` returns.

    Raises:
        Stopped: At the end, if a signal came that nobody has acted on.
    """
    with handled():
        try:
            yield
            if _State.deferred and _State.first is not None:
                raise Stopped(_State.first, f'{name_of(_State.first)} came when the training was finished and saved.')
        finally:
            _State.deferred = False


def defer() -> None:
    """From here to the end of :func:`training`, whoever asks :func:`requested` saves and ends the process."""
    _State.deferred = _State.handled


def _handle(signum: int, frame: Any) -> None:
    if _State.first is not None:
        return  # a second Ctrl-C is the watcher's
    _State.first = signum
    if not _State.deferred:
        raise Stopped(signum, f'stopped by {name_of(signum)}: no training was running, so there is nothing to save.')
    if process_index() == 0:
        again = 'Ctrl-C again stops at once' if signum == signal.SIGINT else 'Ctrl-C twice stops at once'
        _say(f'{name_of(signum)}: finishing the step, then saving a checkpoint ({again}).')


class _Watcher:
    """A thread that learns of signals at once, also while the main thread is inside a library and cannot.

    Ends the process on a second Ctrl-C, and where a first signal should have ended it and has not.
    """

    def __init__(self) -> None:
        # Written to by Python's own handler, in C.
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._closed = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._watch, name='signals', daemon=True)
        self._thread.start()
        _watchers.append(self)

    def _watch(self) -> None:
        interrupts = 0
        while signums := self._read.recv(64):
            for signum in signums:
                if signum == 0:
                    return
                if signum not in STOPPING:
                    continue  # such as SIGCHLD of a worker
                interrupts += signum == signal.SIGINT
                if interrupts > 1:
                    _say('Ctrl-C twice: stopped at once. --resume goes on from the last checkpoint that was saved.')
                    os._exit(128 + signum)
                if interrupts < 2 and not _State.deferred:
                    threading.Thread(target=self._insist, args=(signum,), daemon=True).start()

    def _insist(self, signum: int) -> None:
        if not self._closed.wait(GRACE) and not _State.deferred:
            os._exit(128 + (_State.first or signum))

    def close(self) -> None:
        """Stop watching for signals; what watched before does so again."""
        _watchers.remove(self)
        signal.set_wakeup_fd(self._before)
        self._closed.set()
        self._write.send(b'\0')
        self._thread.join()
        self._read.close()
        self._write.close()


_watchers: list[_Watcher] = []


def _in_child() -> None:
    """A forked process shares the pipe, and must not speak for its parent: what ends the parent ends it."""
    if _watchers:
        signal.set_wakeup_fd(-1)
        _watchers.clear()
        for signum in STOPPING:
            if signal.getsignal(signum) is _handle:
                signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.SIG_IGN)
    _State.handled = False


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_in_child)


def die_with_parent(signum: int) -> None:
    """Let the kernel send this process a signal when the thread that started it ends, also if that is killed (Linux).

    Args:
        signum: Number of the signal.
    """
    if sys.platform == 'linux':
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signum, 0, 0, 0)  # PR_SET_PDEATHSIG


def process_index() -> int:
    """Rank of this process as its launcher set it, before there is a process group; 0 without a launcher."""
    text = os.environ.get('RANK', os.environ.get('SLURM_PROCID', ''))
    return int(text) if text.isdigit() else 0


def _say(line: str) -> None:
    # Not by `print`, whose buffer the interrupted thread may be writing to. The terminal may have gone.
    with suppress(OSError):
        os.write(2, f'{line}\n'.encode())
