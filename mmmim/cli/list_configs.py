"""Names of the configs that come with mmmim: what the other commands and `mmmim.get_model` take in place of a file.

With --pretrained, the names of published weights instead, which are taken in place of checkpoints; with --papers, the
tables of the papers: their numbers, and the commands that would make them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatch

from mmmim.config.resources import config_names
from mmmim.config.weights import read_weights
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
        'all, but for ablations). Names that begin with eval/ are of downstream tasks, the others of pre-trainings',
    )
    parser.add_argument('--ablations', action='store_true', help='also the configs of ablations without a PATTERN')
    parser.add_argument(
        '--pretrained',
        action='store_true',
        help='published weights: name, what they are, licence, address, and the page to see. Listing downloads nothing',
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
    if args.pretrained:
        print('\n'.join(_weights_lines(pattern)))
        return
    names = config_names()
    found = [name for name in names if pattern in name or fnmatch(name, pattern)]
    if pattern == '*' and not args.ablations:
        found = [name for name in found if '/ablations/' not in name]
    if not found:
        close = difflib.get_close_matches(pattern, [*names, *(name.split('/')[0] for name in names)], n=3)
        hint = f'did you mean {" or ".join(dict.fromkeys(close))}?' if close else 'mmmim list shows all names.'
        raise InputError(f'No config that comes with mmmim has a name like {pattern!r}: {hint}')
    print('\n'.join(found))


def _weights_lines(pattern: str) -> list[str]:
    """The rows of the table of published weights, and what is known of all of them."""
    table = read_weights()
    rows = [row for name, row in table.weights.items() if pattern in name or fnmatch(name, pattern)]
    if not rows:
        close = difflib.get_close_matches(pattern, table.weights, n=3)
        hint = f'did you mean {" or ".join(close)}?' if close else 'mmmim list --pretrained shows all names.'
        raise InputError(f'No published weights have a name like {pattern!r}: {hint}')
    width = max(len(row.name) for row in rows)
    lines = [
        f'{row.name:<{width}}  {row.what}; licence: {row.licence}; '
        + (f'{row.url} ({row.source})' if row.url else f'by hand: {row.source}')
        for row in rows
    ]
    return [*lines, '', table.note]
