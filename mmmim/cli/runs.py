"""Trainings side by side: how far each is, its last losses, and what its features are worth beside their first row."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import ToolParser
from .program import user_errors

#: Of the log, columns of the table where they are there.
_LOGGED = ('loss', 'grad_norm', 'images_per_s')


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        'folders', nargs='*', default=['work_dirs'], metavar='FOLDER', help='work folders, or folders of work folders'
    )
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print a table, a row for each training.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    folders = build_parser().parse_args(argv).folders

    import os
    import time
    from pathlib import Path

    from mmmim.engine.hooks.probe_hook import FILE, is_quick, read_rows
    from mmmim.utils import InputError
    from mmmim.utils.tables import markdown_table
    from mmmim.visualization.curves import read_scalars

    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f'{folder} is no folder: give work folders of trainings, or the folder that they are in.')
        found |= dict.fromkeys(path.parents[2] for path in sorted(folder.glob('**/vis_data/scalars.json')))
    rows: list[dict[str, str]] = []
    for folder in found:
        curves = read_scalars(folder)
        if not curves or 'loss' not in curves:  # no training
            continue
        steps, _ = curves['loss']
        newest = max(os.stat(path).st_mtime for path in folder.glob('*/vis_data/scalars.json'))
        row = {'run': str(folder), 'iteration': f'{int(steps[-1])}', 'written': _ago(time.time() - newest)}
        row |= {name: f'{curves[name][1][-1]:.4g}' for name in _LOGGED if name in curves}
        scored = [each for each in read_rows(str(folder / FILE)) or [] if is_quick(each)]
        if scored:
            first, last = scored[0], scored[-1]
            for key, value in last.items():
                if key.startswith('student_quick_'):
                    before = f'{first[key]:.3f} to ' if key in first and len(scored) > 1 else ''
                    row[key.removeprefix('student_quick_')] = f'{before}{value:.3f}'
        rows.append(row)
    if not rows:
        raise InputError(f'{", ".join(folders)}: there is no training that has logged anything.')
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(markdown_table(names, [[row.get(name, '') for name in names] for row in rows]))


def _ago(seconds: float) -> str:
    for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= size:
            return f'{seconds / size:.0f} {unit} ago'
    return f'{max(seconds, 0):.0f} s ago'
