"""What every command line tool runs in: threads, signals, and errors without stack traces."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.failures import explain
from mmmim.utils.names import forgive
from mmmim.utils.signals import Stopped, die_with_parent, handled, process_index
from mmmim.utils.threads import choose_threads


@contextmanager
def user_errors() -> Iterator[None]:
    """What every tool runs in; also a decorator.

    Chooses threads (:func:`mmmim.utils.threads.choose_threads`), handles signals (:mod:`mmmim.utils.signals`), and
    ends the program with ``error: ...`` instead of a stack trace: with status 2 on an :class:`InputError`, with 1
    where a worker or another process was lost. Of several processes only the first prints the whole message. It ends
    without a word where nobody reads the output any more.
    Names that the terminal's encoding cannot show are printed with escapes.
    """
    choose_threads()
    forgive(sys.stdout)
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        die_with_parent(signal.SIGTERM)  # a launcher that is killed leaves nothing behind, and nothing is lost
    status = 2
    try:
        with handled():
            yield
            _close_process_group()
            sys.stdout.flush()
        return
    except Stopped as stopped:
        if stopped.message and process_index() == 0:
            print(stopped.message, file=sys.stderr)
        if stopped.together:
            _close_process_group()
        raise
    except InputError as error:
        message = str(error)
    except KeyError as error:
        # A misspelt `type` in a config, from mmengine's registries.
        message = str(error.args[0]) if error.args else ''
        if not re.search(r'is not in the \S+ registry', message):
            raise
        message = message.split('. More details')[0] + '.' + _similar_type(message)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:  # where signals are not handled, in a thread
        print('interrupted: --resume continues a training from its latest checkpoint', file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        explanation = explain(error)
        if explanation is None:
            raise
        message, status = explanation, 1
        # A half-made iterator of torch fails once more when it is deleted, and its handler when it hears of the worker.
        sys.unraisablehook = _without_loaders
        if hasattr(signal, 'SIGCHLD') and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (rank := process_index()) == 0:
        print(f'error: {message}', file=sys.stderr)
    else:
        print(f'error on process {rank}: {message.splitlines()[0][:80]} ...', file=sys.stderr)
    raise SystemExit(status)


def _nobody_reads() -> bool:
    """Whether a reader of the output, such as ``head``, has ended; then Python does not complain of it at the end."""
    try:
        print(flush=True)  # what failed is not written again
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _without_loaders(unraisable: Any) -> None:
    if 'DataLoaderIter' not in getattr(unraisable.object, '__qualname__', ''):
        sys.__unraisablehook__(unraisable)


def _similar_type(message: str) -> str:
    from mmengine.registry import Registry

    import mmmim.registry

    names = [
        f'mmmim.{name}'
        for registry in vars(mmmim.registry).values()
        if isinstance(registry, Registry)
        for name in registry.module_dict
    ]
    close = difflib.get_close_matches(f'mmmim.{message.split(" is not in")[0].split(".")[-1]}', names, n=1)
    return f' Did you mean {close[0]}?' if close else ''


def _close_process_group() -> None:
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
