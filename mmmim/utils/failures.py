"""What failures of the machine mean to a user: those that no input is to blame for, and no code of this package."""

from __future__ import annotations

import re
import traceback

from .workers import NO_SHARED_MEMORY, OUT_OF_SHARED_MEMORY

_RESUME = 'a training goes on with --resume'
_FEWER = '--cfg-options train_dataloader.num_workers=0 (or val_dataloader, test_dataloader; --workers 0 of other tools)'
_LOST = r'[Cc]onnection (was )?(closed|reset|refused)|Broken pipe|remote process exited|Timed out waiting|Read timeout'


def explain(error: BaseException) -> str | None:
    """One sentence of cause and remedy for a lost worker or process, or a machine without shared memory or files.

    Args:
        error: What was raised, by torch or the operating system.

    Returns:
        The sentence; None for any other error, whose stack trace is what helps.
    """
    text = _text(error)
    worker = 'DataLoader worker' in text
    if _no_semaphores(error) or (
        worker and re.search(rf'{NO_SHARED_MEMORY}|Bus error|exit code {OUT_OF_SHARED_MEMORY}\b', text)
    ):
        return (
            'There is no shared memory left for the workers of a data loader (/dev/shm is full or small): make it '
            f'larger (docker run --shm-size=8g), or read without workers, {_FEWER}; {_RESUME}.'
        )
    if re.search(r'Too many open files|received 0 items of ancdata', text):
        return (
            'The limit of open files was reached (ulimit -n), which workers of a data loader use for every batch: '
            f'raise it (ulimit -n 65536), or read without workers, {_FEWER}; {_RESUME}.'
        )
    if _sender_died(error, text):
        return (
            'A worker of a data loader (process unknown) was lost, before its batch was read: most often the machine '
            f'ran out of memory and killed it. Use fewer workers, {_FEWER}; {_RESUME}.'
        )
    if worker and (how := re.search(r'exited unexpectedly(?: with exit code \d+)?|killed by signal: [^.\n]+', text)):
        pid = re.search(r'\(pid(?:\(s\))? ([\d, ]+)\)', text)
        return (
            f'A worker of a data loader (process {pid[1] if pid else "unknown"}) was lost, "{how[0]}": most often the '
            f'machine ran out of memory and killed it. Use fewer workers, {_FEWER}; {_RESUME}.'
        )
    if _distributed(error) and re.search(_LOST, text):
        return f'The connection to another process was lost, which has ended or cannot be reached; {_RESUME}.'
    return None


def _text(error: BaseException) -> str:
    """The messages of an error and of those that led to it."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(parts) < 10:
        parts.append(str(link))
        link = link.__cause__ or link.__context__
    return '\n'.join(parts)


def _sender_died(error: BaseException, text: str) -> bool:
    """Whether a batch that a worker had sent could not be fetched: its memory is handed over by the worker itself."""
    if not isinstance(error, ConnectionError | FileNotFoundError | EOFError):
        return False
    # Fetched in the thread that pins memory, the trace is part of the message.
    sharer = 'resource_sharer.py'
    return sharer in text or any(frame.filename.endswith(sharer) for frame in traceback.extract_tb(error.__traceback__))


def _no_semaphores(error: BaseException) -> bool:
    """Locks of multiprocessing live in /dev/shm: their error names no file."""
    if not isinstance(error, OSError) or error.filename is not None or 'No space left' not in str(error):
        return False
    return any('multiprocessing' in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _distributed(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {'DistError', 'DistBackendError', 'DistNetworkError'}) or (
        isinstance(error, RuntimeError) and bool(re.search(r'gloo|NCCL|TCPStore|ProcessGroup', str(error)))
    )
