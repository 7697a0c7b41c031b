"""What this machine is, on every operating system as far as it tells."""

from __future__ import annotations

import os
import platform


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open('/proc/cpuinfo') as file:
            return next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine_name() -> str:
    """What computes here: the GPUs, or the processor and how many of its cores may be used."""
    import torch  # tools that only print their help do without

    if gpus := torch.cuda.device_count():
        return f'{gpus} x {torch.cuda.get_device_name()}'
    return f'{cpu_name()}, {usable_cpus()} cores'


def usable_cpus() -> int:
    """Processors that this process may use; where the system does not tell (macOS, Windows), all there are."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_resident_memory() -> int | None:
    """The largest resident size of this process in bytes, libraries included; None where it is not known (Windows)."""
    try:
        # getrusage counts what the process was forked from, too.
        with open('/proc/self/status') as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith('VmHWM:'))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == 'Darwin' else peak * 1024


def physical_memory() -> int | None:
    """Bytes of the machine; None where it is not known (Windows)."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, OSError, ValueError):
        return None


def gigabytes(number: int | None) -> str:
    """Bytes as text."""
    return 'unknown' if number is None else f'{number / 1e9:.2f} GB'
