"""Download published weights, convert them, and print where they are: the path that other commands make of the name.

Other commands do the same when they are given a name. Where they run without a network, this is run before, with the
same MMMIM_HOME.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from mmmim.utils import InputError

from .arguments import add_trust_option
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('names', nargs='+', metavar='NAME', help='name that mmmim list --pretrained shows')
    add_trust_option(parser)
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print one path in a line.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)

    from mmmim.checkpoints import trusting
    from mmmim.config.downloads import LocalWeights
    from mmmim.config.weights import read_weights
    from mmmim.converters.published import find_weights

    known = read_weights().weights
    for name in args.names:  # before anything is downloaded
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f'did you mean {" or ".join(close)}?' if close else 'mmmim list --pretrained shows all names.'
            raise InputError(f'No published weights have the name {name!r}: {hint}')
    with trusting(args.trust_checkpoint):
        for name in args.names:
            row = known[name]
            print(LocalWeights(row).fetch() if row.tokenizer is not None else find_weights(name)[0], flush=True)
