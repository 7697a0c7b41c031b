"""Write the encoder of a checkpoint for other programs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmmim.export.formats import FORMATS, export
from mmmim.utils import InputError

from .arguments import add_model_options
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__, epilog='What each format holds: docs/en/export.md.')
    parser.add_argument('checkpoint', metavar='CKPT', help='checkpoint of mmmim, converted or exported file')
    parser.add_argument('out', metavar='OUT', help='file or folder to write')
    formats = '; '.join(
        f'{name}: {each.words}{"" if each.ending is None else f" (*{each.ending})"}' for name, each in FORMATS.items()
    )
    parser.add_argument('--to', required=True, choices=list(FORMATS), help=formats)
    add_model_options(parser)
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Export, and say how the result is used.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)
    args.device = args.device or 'cpu'

    from .inputs import is_random, load_model

    extractor = load_model(args)
    if is_random(args.checkpoint):
        raise InputError(f'{args.checkpoint} stands for random weights: give a checkpoint to export.')
    use = export(extractor, args.out, args.to, args.checkpoint)
    files = [args.out]
    if os.path.isdir(args.out):
        files = [os.path.join(args.out, name) for name in os.listdir(args.out)]
    size = sum(os.path.getsize(file) for file in files)
    print(f'{args.out}: {size / 1e6:.1f} MB, {FORMATS[args.to].words}\nUse it: {use}')
