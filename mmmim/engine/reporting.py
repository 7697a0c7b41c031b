"""What tells of a training must not end it: logs, trackers, pictures and probes."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from mmengine.hooks import LoggerHook
from mmengine.visualization import LocalVisBackend, MLflowVisBackend
from PIL import Image

from mmmim.utils import InputError
from mmmim.utils.internals import trackers

#: Called before the first step: what is wrong with a config shows there, and nothing is lost yet.
_BEFORE_TRAINING = ('before_run', 'before_train', 'before_test', 'before_save_checkpoint', 'after_load_checkpoint')
_TRACKED = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


def reserve_folder(parent: str, name: str) -> str:
    """Make a folder that did not exist and see that it can be written; returns its name, with a number if need be.

    Raises:
        InputError: The disk is full, or the folder cannot be written.
    """
    for number in range(10_000):
        folder = os.path.join(parent, chosen := f'{name}_{number}' if number else name)
        try:
            os.mkdir(folder)
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_be_written(parent, error) from error
        probe = os.path.join(folder, '.probe')
        try:
            with open(probe, 'wb') as file:  # some file systems find out late that they are full
                file.write(bytes(65536))
                file.flush()
                os.fsync(file.fileno())
            os.remove(probe)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(probe)
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            raise _cannot_be_written(parent, error) from error
        return chosen
    raise InputError(f'{parent} holds ten thousand folders {name}_*: take another --work-dir.')


def _cannot_be_written(folder: str, error: OSError) -> InputError:
    reason = (error.strerror or str(error)).lower()
    return InputError(f'The work folder {folder} cannot be written: {reason}. Make room or take another --work-dir.')


def keep_logging(handler: logging.Handler) -> None:
    """Let a handler of a logger that cannot write say so once, in a line, instead of a stack trace for each message."""
    told = False

    def handle_error(record: logging.LogRecord) -> None:
        nonlocal told
        if not told:
            told = True
            where = getattr(handler, 'baseFilename', 'the output')
            with contextlib.suppress(Exception):
                reason = _reason(sys.exc_info()[1])
                print(f'WARNING: {where} cannot be written ({reason}): lines are missing there.', file=sys.stderr)

    handler.handleError = handle_error  # type: ignore[method-assign]


def keep_tracking(name: str, backend: Any, logger: logging.Logger) -> None:
    """Let a backend of a visualizer that fails be a warning, once per kind of failure.

    Raises:
        InputError: Later, when the backend is first used: the library that it needs is not installed.
    """
    told: set[tuple[str, str]] = set()

    def guarded(method: str) -> Any:
        function = getattr(backend, method)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ImportError as error:
                raise _missing_library(type(backend).__name__, error) from error
            except Exception as error:
                if (key := (method, type(error).__name__)) not in told:
                    told.add(key)
                    logger.warning(
                        f'The tracker {name} failed ({method}: {_reason(error)}): training goes on, without what it '
                        'misses. This is said once.'
                    )

        return call

    for method in _TRACKED:
        setattr(backend, method, guarded(method))


def _missing_library(backend: str, error: ImportError) -> InputError:
    command = re.search(r'pip install ([\w. -]*\w)(?= to install|["\']|$)', str(error))
    package = command[1].strip() if command else (error.name or 'it needs').split('.')[0]
    return InputError(
        f'visualizer.vis_backends: {backend} needs a package that is not installed: pip install {package}, or remove '
        'the backend.'
    )


def show_in_trackers(runner: Any, names: Iterable[str]) -> None:
    """Give pictures of the work folder to the trackers of a training; the log folder has them already.

    Args:
        runner: The runner that trains.
        names: Names of the pictures, without ``.png``.
    """
    for backend in trackers(runner.visualizer).values():
        if isinstance(backend, LocalVisBackend):
            continue
        shown = '{}.png' if isinstance(backend, MLflowVisBackend) else '{}'  # MLflow keeps files
        for name in names:
            with Image.open(os.path.join(runner.work_dir, f'{name}.png')) as picture:
                backend.add_image(shown.format(name), np.asarray(picture.convert('RGB')), step=runner.iter + 1)


@contextlib.contextmanager
def only_reports(runner: Any, hook: Any, when: str) -> Iterator[None]:
    """Let what fails in a hook that reports be a warning, once per kind of failure.

    Such hooks are mmengine's ``LoggerHook`` and those with an attribute ``only_reports = True``. An
    :class:`InputError` passes: with it, hooks end a training on purpose. Where the model is divided among processes, so
    do errors other than of files, because a process that leaves a forward pass would let the others wait.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reports = getattr(hook, 'only_reports', False) or isinstance(hook, LoggerHook)
        alone = runner.strategy is None or isinstance(error, OSError)
        if not reports or not alone or when in _BEFORE_TRAINING:
            raise
        told = runner.__dict__.setdefault('_failed_reports', set())
        if (key := (type(hook), when, type(error))) not in told:
            told.add(key)
            runner.logger.warning(
                f'{type(hook).__name__} failed ({when}: {_reason(error)}): training goes on without. This is said once.'
            )


def _reason(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f'{type(error).__name__}: {error}'.splitlines()[0][:200]
