"""Replay a recorded run of a method, or a recorded protocol of evaluation, and compare every quantity with it.

Exit status 0 if all agree within their tolerances, 1 if not (or if a quantity was not computed), 2 if the recording
cannot be used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmmim.utils import InputError

from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('method', help="the method of the recording, e.g. capi; 'protocol' for one of evaluation")
    parser.add_argument('fixture', help='NAME.npz; its settings are read from NAME.json beside it')
    parser.add_argument('--dump', metavar='OUT.npz', help='write every computed array under its name in the recording')
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> int:
    """Replay, print one row per quantity.

    Args:
        argv: Words of the command line; None for those of the program.

    Returns:
        The exit status: 0 if all agree, 1 if not.
    """
    args = build_parser().parse_args(argv)

    import numpy as np

    from mmmim.parity import Fixture, check, check_name, format_rows, method_of

    check_name(args.method)
    if args.dump and not os.path.isdir(os.path.dirname(os.path.abspath(args.dump))):
        raise InputError(f'--dump: the folder of {args.dump} does not exist.')
    fixture = Fixture.load(args.fixture)
    rows, computed = check(method_of(args.method, fixture), fixture)
    print(format_rows(rows))
    if args.dump:
        arrays: dict[str, Any] = computed
        np.savez(args.dump, **arrays)
        print(f'wrote {len(computed)} arrays to {args.dump}')
    return int(not rows or any(row.failed for row in rows))
