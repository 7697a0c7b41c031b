"""One page of what a training left in its work folder."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime
from typing import Any

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook

from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.machine import machine_name
from mmmim.utils.options import Count
from mmmim.version import __version__
from mmmim.visualization.pages import picture, render

from .health_hook import given_warnings
from .probe_hook import FILE, is_quick, protocols_of, read_rows, table_of

PAGE = 'report.html'
#: Pictures of a work folder, and what they show.
_PICTURES = {
    'features.png': 'What the features see: principal components of patch features as colours',
    'reconstruction.png': 'What is reconstructed',
    'segmentations.png': 'What is segmented',
    'probes.png': 'What the features are worth, while they are trained',
    'curves.png': 'Losses and rates',
    'health.png': 'Health',
}
_SHOWN = ('loss', 'lr', 'momentum', 'grad_norm', 'images_per_s')


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.html`` into the work folder: tables of probes, pictures, warnings, config and environment.

    The page reads nothing from elsewhere. It is written anew when something of it is new, and at the end.

    Args:
        interval: Iterations from one look at what is new to the next.
    """

    # After the hooks that draw.
    priority = 'LOWEST'
    only_reports = True

    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self._shown: object = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write the page, if a picture, a score or a warning is new."""
        if self.every_n_train_iters(runner, self.interval):
            self._write(runner, 'running')

    @master_only
    def after_train(self, runner: Any) -> None:
        """Write the page of the whole training."""
        self._shown = None
        if self._write(runner, 'done' if runner.iter >= runner.max_iters else 'stopped'):
            runner.logger.info(f'Tables and pictures on one page: {os.path.join(runner.work_dir, PAGE)}')

    @master_only
    def _write(self, runner: Any, state: str) -> bool:
        """Write the page unless it shows all that there is; returns whether it has."""
        folder = runner.work_dir
        warnings = given_warnings(runner.message_hub)
        files = {name: _time(os.path.join(folder, name)) for name in (FILE, *_PICTURES)}
        if self._shown == (files, len(warnings)):
            return False
        self._shown = files, len(warnings)
        rows = read_rows(os.path.join(folder, FILE)) or []
        names: list[str | None] = [None] if any(map(is_quick, rows)) else []
        names += list(dict.fromkeys(name for row in rows for name in protocols_of(row)))
        tables = []
        for name in names:
            header, lines = table_of(rows, name, last=len(rows))
            tables.append({'title': name or 'Quick probes', 'header': header, 'rows': lines})
        from mmmim.visualization.curves import read_scalars  # matplotlib

        curves = read_scalars(folder)
        text = render(
            'report.html',
            title=os.path.basename(os.path.abspath(folder)),
            iteration=min(runner.iter + (state == 'running'), runner.max_iters),
            max_iters=runner.max_iters,
            state=state,
            date=f'{datetime.now():%Y-%m-%d %H:%M}',
            warnings=warnings,
            tables=tables,
            pictures=[
                {'name': name.partition('.')[0], 'title': title, 'data': picture(os.path.join(folder, name))}
                for name, title in _PICTURES.items()
                if files[name] is not None
            ],
            last={name: curves[name][1][-1] for name in _SHOWN if name in curves},
            command=shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
            environment=_environment(),
            config=runner.cfg.pretty_text,
            log=runner.log_dir,
        )
        try:
            write_text_atomically(text, os.path.join(folder, PAGE))
        except InputError as error:  # must not end a training
            runner.logger.warning(str(error))
            return False
        return True


def _time(path: str) -> int | None:
    """When a file was written, in nanoseconds; None where it is missing."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _environment() -> dict[str, str]:
    """Versions and machine, without names of hosts, users and folders."""
    return {
        'mmmim': __version__,
        'torch': torch.__version__,
        'Python': sys.version.split()[0],
        'machine': machine_name(),
        'processes': str(get_world_size()),
        'threads': str(torch.get_num_threads()),
    }
