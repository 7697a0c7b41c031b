"""How many threads a process computes with, and how they wait for each other: chosen before torch is imported."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

#: What a user sets to choose the number of threads, and how they wait.
NUMBER = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
WAITING = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')
# Threads of OpenMP spin for milliseconds when they wait, in case the others are nearly done. On a machine that has
# other work, those others may not be running at all, and spinning keeps them from it. Sleeping ones leave the core.
POLICY = {'OMP_WAIT_POLICY': 'PASSIVE', 'KMP_BLOCKTIME': '0'}


def choose_threads(number: int | None = None) -> dict[str, str]:
    """Set the environment variables of OpenMP that the user has not set, for this process and those it starts.

    Libraries read them once, when they are loaded: where torch has been imported already, nothing is changed. The
    choice does not depend on what else the machine is doing, because sums over another number of threads are rounded
    differently and a resumed training would differ.

    Args:
        number: Threads. None: as many as torch takes by itself, but not more than a container may use at a time.

    Returns:
        What was set.
    """
    if 'torch' in sys.modules:
        return {}
    chosen: dict[str, str] = {}
    if not any(name in os.environ for name in WAITING):
        chosen |= POLICY
    if not any(name in os.environ for name in NUMBER):
        limit = number if number is not None else _container_limit()
        if limit is not None:
            chosen['OMP_NUM_THREADS'] = str(limit)
    os.environ.update(chosen)
    return chosen


def _container_limit() -> int | None:
    """Cores that the control group lets this process use at a time, where they are fewer than it can run on."""
    quotas = [quota for quota in map(_quota, _groups()) if quota is not None]
    if not quotas:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    limit = max(1, math.ceil(min(quotas)))
    return limit if limit < cores else None


def _groups(root: Path = Path('/sys/fs/cgroup'), own: Path = Path('/proc/self/cgroup')) -> list[Path]:
    """Folders of the control groups of this process, of version 1 and 2, from its own to the outermost."""
    groups = []
    for line in _text(own).splitlines():
        _, controllers, path = line.split(':', 2)
        if controllers and 'cpu' not in controllers.split(','):
            continue
        # In a container the path may be that of the host: then only the outermost folder is there.
        base = root if not controllers else root / 'cpu'
        folder = base / path.strip('/')
        groups += [folder, *(parent for parent in folder.parents if parent == base or base in parent.parents)]
    return groups


def _quota(group: Path) -> float | None:
    """Cores of time that a control group grants per time; None where it does not limit them."""
    words = _text(group / 'cpu.max').split()
    if not words:
        words = [_text(group / 'cpu.cfs_quota_us').strip(), _text(group / 'cpu.cfs_period_us').strip()]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # 'max', or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ''
