"""Measure the images of a folder: channels, bits, sizes, mean and standard deviation; print the lines for a config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .arguments import COUNT, NATURAL
from .parser import ToolParser
from .program import user_errors

if TYPE_CHECKING:
    from mmmim.datasets.statistics import FolderStatistics

#: Unreadable files that are named.
_NAMED = 10


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('folder', metavar='FOLDER', help='folder of images, with all folders below it')
    parser.add_argument('--limit', type=COUNT, metavar='N', help='measure N images, spread evenly (default: all)')
    parser.add_argument(
        '--channels', type=COUNT, metavar='C', help='channels to read images with (default: what most files have)'
    )
    parser.add_argument('--workers', type=NATURAL, default=4, help='processes that read images (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE', help='write what was measured to a file .json, too')
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)

    import os
    import sys

    from mmmim.datasets.statistics import measure
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.names import printable

    from .inputs import find_images

    if args.out is not None:
        folder = os.path.dirname(os.path.abspath(args.out))
        if not args.out.endswith('.json') or not os.path.isdir(folder):
            raise InputError(f'--out {args.out}: give a file that ends in .json, in a folder that exists.')
    if not os.path.isdir(args.folder):
        raise InputError(f'There is no folder {printable(args.folder)}.')
    paths = find_images([args.folder], args.limit or sys.maxsize)
    found = measure(paths, args.channels, min(args.workers, len(paths)))
    if found.moments is None:
        raise InputError(f'None of the {len(paths)} images can be read, for example: {found.unreadable[0]}.')
    print(report(found))
    print('\nFor a config (docs/en/dataset_prepare.md, "Your own images"):\n')
    print(config_lines(found, args.folder))
    if args.out is not None:
        write_text_atomically(json.dumps(as_data(found, args.folder), indent=2) + '\n', args.out)
        print(f'\nWrote {args.out}.')


def report(found: FolderStatistics) -> str:
    """What was measured, as text: a sentence each about number, type and size, and a table of the channels."""
    from mmmim.utils.tables import markdown_table

    moments: Any = found.moments
    types = ', '.join(f'{name} ({number})' for name, number in found.types.most_common())
    bits = f'; the greatest value needs {found.bits} bits' if found.bits is not None else ''
    lines = [
        f'Images:    {found.images} read, {len(found.unreadable)} unreadable',
        f'Values:    {types}{bits}',
        f'Channels:  {found.channels} ({_of_files(found)})',
        f'Height:    {found.heights[0]} to {found.heights[1]} pixels',
        f'Width:     {found.widths[0]} to {found.widths[1]} pixels',
        '',
    ]
    columns = (moments.mean, moments.std, moments.low, moments.high)
    rows = [[str(c), *(f'{column[c]:.6g}' for column in columns)] for c in range(found.channels)]
    lines.append(markdown_table(['channel', 'mean', 'std', 'least', 'greatest'], rows))
    lines += [f'\nWARNING: {sentence}' for sentence in remarks(found)]
    if found.unreadable:
        lines += ['', 'Unreadable:', *(f'  {reason}' for reason in found.unreadable[:_NAMED])]
        if len(found.unreadable) > _NAMED:
            lines.append(f'  and {len(found.unreadable) - _NAMED} more')
    return '\n'.join(lines)


def remarks(found: FolderStatistics) -> list[str]:
    """What of a folder does not fit together, a sentence each."""
    moments: Any = found.moments
    sentences = []
    if len(found.types) > 1:
        sentences.append(
            f'Images are of {len(found.types)} types of values ({", ".join(sorted(found.types))}): one mean and '
            'deviation fit both only if their values are on one scale; convert them otherwise.'
        )
    if constant := [str(c) for c in range(found.channels) if moments.std[c] == 0]:
        sentences.append(
            f'Channel {", ".join(constant)} has one value in all images and tells nothing; its deviation is 1 in the '
            'lines below, for it must be above 0.'
        )
    return sentences


def _of_files(found: FolderStatistics) -> str:
    numbers = sorted(found.own_channels.items())
    return (
        'as all files have'
        if len(numbers) == 1 and numbers[0][0] == found.channels
        else ', '.join(f'{number} files have {own}' for own, number in numbers)
    )


def config_lines(found: FolderStatistics, folder: str) -> str:
    """The key ``images`` of a config, as it is written there."""
    data = as_data(found, folder)
    return '\n'.join(
        [
            'images = dict(',
            f'    data_root={folder!r},',
            f'    channels={found.channels},',
            f'    mean={data["mean"]},',
            f'    std={[value or 1.0 for value in data["std"]]},',
            ')',
        ]
    )


def as_data(found: FolderStatistics, folder: str) -> dict[str, Any]:
    """What was measured, as plain data."""
    moments: Any = found.moments
    rounded = {
        name: [float(f'{value:.7g}') for value in values]
        for name, values in (('mean', moments.mean), ('std', moments.std), ('min', moments.low), ('max', moments.high))
    }
    return {
        'data_root': folder,
        'images': found.images,
        'channels': found.channels,
        **rounded,
        'bits': found.bits,
        'types': dict(found.types),
        'channels_of_files': {str(own): number for own, number in found.own_channels.items()},
        'height': list(found.heights),
        'width': list(found.widths),
        'unreadable': found.unreadable,
    }
