"""Processes of data loaders: they end with the process that reads from them, and not before."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from .signals import STOPPING, die_with_parent

#: What torch and the kernel say where /dev/shm is full.
NO_SHARED_MEMORY = r'shared memory|</torch_|No space left on device'
#: Exit status of a worker that cannot send a batch for that reason.
OUT_OF_SHARED_MEMORY = 74


def outlived_by_parent(loader: Any) -> Any:
    """Let the workers of a data loader ignore signals, which are their parent's to judge, and die with it.

    Args:
        loader: A ``torch.utils.data.DataLoader`` whose workers have not started. Its own ``worker_init_fn`` is called
            as before.

    Returns:
        The loader.
    """
    if loader.num_workers > 0:
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)
    return loader


def start_worker(then: Callable[[int], Any] | None, worker_id: int) -> None:
    """Of ``outlived_by_parent``: what a worker does first.

    Schedulers, launchers and terminals send signals to all processes of a group. A worker that ends by one of them
    would take a training with it that is finishing its step.

    Args:
        then: The loader's own ``worker_init_fn``.
        worker_id: Index of the worker.
    """
    import multiprocessing.queues

    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid == os.getppid():  # not where a fork server starts the workers
        die_with_parent(getattr(signal, 'SIGKILL', signal.SIGTERM))
    for signum in STOPPING:
        if signum != signal.SIGTERM:
            signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        # By SIGTERM torch and multiprocessing end workers that hang: who sent it decides. Blocked in this thread and
        # those that it starts, it waits for one that asks.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, name='signals', daemon=True).start()
    # A batch that does not fit into shared memory is otherwise dropped by the thread that sends it, with a trace, and
    # the training waits for it for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_cannot_send)  # type: ignore[attr-defined]
    if then is not None:
        then(worker_id)


def _end_with_parent() -> None:
    parent = os.getppid()
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)


def _cannot_send(error: BaseException, batch: Any) -> None:
    if re.search(NO_SHARED_MEMORY, str(error)):
        os._exit(OUT_OF_SHARED_MEMORY)  # its parent says the rest
    os.write(2, f'A data loader worker could not send a batch: {type(error).__name__}: {error}\n'.encode())
    os._exit(1)
