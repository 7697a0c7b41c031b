"""Processes of this interpreter that tests start and kill, without importing torch anew."""

import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import mmmim.datasets
import mmmim.engine
import mmmim.models
import mmmim.visualization.curves  # noqa: F401  (here, so that no forked process has to)


def start(function, output, **environment):
    """Run a function in a forked process whose output goes to a file.

    Args:
        function: Called without arguments; an exception is exit status 1, but for ``SystemExit``.
        output: The file; it is appended to.
        environment: Variables of the process.

    Returns:
        Its id.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # Those of pytest are other files.
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        os.environ.update({key: str(value) for key, value in environment.items()})
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        function()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def start_group(function, output, world_size):
    """Run a function in processes that find each other as those of torchrun do; returns their ids."""
    if world_size == 1:
        return [start(function, output)]
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    group = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'WORLD_SIZE': world_size, 'LOCAL_WORLD_SIZE': world_size}
    return [start(function, output, RANK=rank, LOCAL_RANK=rank, **group) for rank in range(world_size)]


def wait(process):
    """Exit status of a process; a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_group(function, output, world_size, status=0):
    """Run a function in processes that find each other, all of which have to end with this status."""
    found = [wait(process) for process in start_group(function, output, world_size)]
    with open(output) as file:
        assert found == [status] * world_size, file.read()[-3000:]


def kill(process):
    """End a process at once, whatever it does."""
    os.kill(process, signal.SIGKILL)
    return wait(process)


def children(process):
    """Ids of the processes that any thread of a process has started."""
    files = Path(f'/proc/{process}/task').glob('*/children')
    return [int(child) for file in files for child in file.read_text().split()]


def gone(process, seconds=5.0):
    """Whether a process ends in time; a zombie has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] == 'Z':
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False
