"""One page of what a training left in its work folder."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically

from .probe_hook import FILE, is_quick, protocols_of, read_rows, table

#: Pictures of a work folder, and what they show.
_PICTURES = {
    'features.png': 'What the features see: principal components of patch features as colours',
    'reconstruction.png': 'What is reconstructed',
    'segmentations.png': 'What is segmented',
    'probes.png': 'What the features are worth, while they are trained',
    'curves.png': 'Losses and rates',
    'health.png': 'Health',
}


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.md`` into the work folder at the end of training: the table of probes and all pictures.

    Editors, GitHub and browsers with a Markdown viewer show it as one page.
    """

    # After the hooks that draw.
    priority = 'LOWEST'
    only_reports = True

    @master_only
    def after_train(self, runner: Any) -> None:
        """Write the page."""
        folder = runner.work_dir
        parts = [
            f'# {os.path.basename(folder)}',
            f'{runner.iter} of {runner.max_iters} iterations. Log: {runner.log_dir}',
        ]
        if rows := read_rows(os.path.join(folder, FILE)):
            parts += ['## Scores of frozen features', 'The first row is the model before its first step.']
            parts += [table(rows)] if any(map(is_quick, rows)) else []
            for protocol in dict.fromkeys(name for row in rows for name in protocols_of(row)):
                parts += [f'### {protocol}', table(rows, protocol)]
        for name, title in _PICTURES.items():
            if os.path.isfile(os.path.join(folder, name)):
                parts += [f'## {title}', f'![{title}]({name})']
        path = os.path.join(folder, 'report.md')
        try:
            write_text_atomically('\n\n'.join(parts) + '\n', path)
        except InputError as error:  # must not end a training
            runner.logger.warning(str(error))
            return
        runner.logger.info(f'Table and pictures on one page: {path}')
