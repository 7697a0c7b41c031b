"""Replay a recorded run of a method and compare every quantity with the recording.

Exit status 0 if all agree within their tolerances, 1 if not (or if a quantity was not computed), 2 if the recording
cannot be used.
"""

import argparse
import os
import sys

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('method', help='the method of the recording, e.g. capi')
    parser.add_argument('fixture', help='NAME.npz; its settings are read from NAME.json beside it')
    parser.add_argument('--dump', metavar='OUT.npz', help='write every computed array under its name in the recording')
    return parser.parse_args()


@user_errors()
def main() -> int:
    """Replay, print one row per quantity."""
    args = parse_args()

    import numpy as np

    from mmmim.parity import METHODS, Fixture, check, format_rows
    from mmmim.utils import InputError

    if args.method not in METHODS:
        raise InputError(f'There is no replay of {args.method!r}: use one of {", ".join(METHODS)}.')
    method = METHODS[args.method]
    if args.dump and not os.path.isdir(os.path.dirname(os.path.abspath(args.dump))):
        raise InputError(f'--dump: the folder of {args.dump} does not exist.')
    fixture = Fixture.load(args.fixture)
    rows, computed = check(method, fixture)
    print(format_rows(rows))
    if args.dump:
        np.savez(args.dump, **computed)
        print(f'wrote {len(computed)} arrays to {args.dump}')
    return int(not rows or any(row.failed for row in rows))


if __name__ == '__main__':
    sys.exit(main())
