"""Work inside a process that leaves the process as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.multiprocessing as mp

from .internals import own_instances


@contextmanager
def isolated() -> Iterator[None]:
    """Let a runner be made and used inside another one's work, or after it, without a trace in the process.

    A runner seeds all generators, sets how processes start and how torch and OpenCV compute, and becomes the one that
    ``current`` loggers, message hubs and scopes of mmengine are of. All of this is as it was afterwards, also when
    something fails inside. A process group that is begun inside stays.
    """
    import cv2

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    threads, opencv_threads, method = torch.get_num_threads(), cv2.getNumThreads(), mp.get_start_method(allow_none=True)
    try:
        with torch.random.fork_rng(devices), own_instances():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)
        cv2.setNumThreads(opencv_threads)
        mp.set_start_method(method, force=True)
