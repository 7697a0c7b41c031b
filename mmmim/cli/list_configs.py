"""Names of the configs that come with mmmim: what the other commands and `mmmim.get_model` take in place of a file.

With --papers, the tables of the papers instead: their numbers, and the commands that would make them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatch

from mmmim.config.resources import config_names
from mmmim.utils import InputError

from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        'pattern',
        nargs='?',
        default='*',
        help='of the names to show: a shell pattern such as "capi/*", or a part of the name such as small (default: '
        'all). Names that begin with eval/ are of downstream tasks, the others of pre-trainings',
    )
    parser.add_argument(
        '--papers',
        action='store_true',
        help='print, table by table and row by row, what papers report, and the commands that would make it (nothing '
        'of that was run here), as a script for a shell. PATTERN is then a part of the name of a paper and a table, '
        'such as CAPI or "CAPI table 1", or of a config of a row or of its evaluation, such as capi/ablations/ratio_55',
    )
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print one name in a line, or tables of papers.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)
    pattern = args.pattern
    if args.papers:
        from .papers import paper_lines

        print('\n'.join(paper_lines(pattern)))
        return
    names = config_names()
    found = [name for name in names if pattern in name or fnmatch(name, pattern)]
    if not found:
        close = difflib.get_close_matches(pattern, [*names, *(name.split('/')[0] for name in names)], n=3)
        hint = f'did you mean {" or ".join(dict.fromkeys(close))}?' if close else 'mmmim list shows all names.'
        raise InputError(f'No config that comes with mmmim has a name like {pattern!r}: {hint}')
    print('\n'.join(found))
