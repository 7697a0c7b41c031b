"""Names of the configs that come with mmmim: what the other commands and `mmmim.get_model` take in place of a file."""

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
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print one name in a line.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    pattern = build_parser().parse_args(argv).pattern
    names = config_names()
    found = [name for name in names if pattern in name or fnmatch(name, pattern)]
    if not found:
        close = difflib.get_close_matches(pattern, [*names, *(name.split('/')[0] for name in names)], n=3)
        hint = f'did you mean {" or ".join(dict.fromkeys(close))}?' if close else 'mmmim list shows all names.'
        raise InputError(f'No config that comes with mmmim has a name like {pattern!r}: {hint}')
    print('\n'.join(found))
