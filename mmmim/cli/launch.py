"""torchrun that hands signals on, and says in one line what ended a training.

Signals that ask to stop go to all processes once; they save and end by themselves, however long it takes, and the
status is theirs. (torchrun alone kills what is left after 30 seconds.)
"""

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from mmmim.utils.internals import intercept_launcher
from mmmim.utils.signals import STOPPING, name_of
from mmmim.utils.threads import choose_threads

# Before torch is imported. Several processes on a machine share its cores.
choose_threads(1)

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.run import main  # noqa: E402

_processes: list[subprocess.Popen] = []


def _hand_on(signum: int, frame: Any) -> None:
    running = [process for process in _processes if process.returncode is None]
    if not running:
        raise SystemExit(128 + signum)
    for process in running:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signum)


def _explain(error: ChildFailedError) -> int:
    """Say what a process has not said itself.

    Returns:
        The exit status.
    """
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        by = name_of(-failure.exitcode)
        out_of_memory = ' (most often because the machine ran out of memory)' if by == 'SIGKILL' else ''
        print(
            f'error: process {rank} was ended by {by}{out_of_memory}, and the others with it: a training goes on with '
            '--resume.',
            file=sys.stderr,
        )
        return 1
    return failure.exitcode


def run() -> None:
    """Run torchrun with the arguments of the command line."""
    intercept_launcher(_processes.append, _hand_on)
    for signum in STOPPING:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _hand_on)
    # A table of what each process ended with, for something that is no error of a program.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        sys.exit(_explain(error))


if __name__ == '__main__':
    run()
