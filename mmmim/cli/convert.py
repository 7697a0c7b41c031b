"""Convert weights of other programs to mmmim's format; the file itself tells what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmmim.config.downloads import LocalWeights
from mmmim.config.weights import published
from mmmim.converters.published import set_statistics
from mmmim.converters.registry import CONVERTERS, find_converter
from mmmim.utils import InputError

from .arguments import COUNT, add_trust_option
from .parser import ToolParser
from .program import user_errors

#: By the argument of ``convert_checkpoint`` that they set: options, whose defaults are those of the converters.
_OPTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    'num_heads': (
        '--num-heads',
        'of the encoder, and of the predictor of I-JEPA, which weights do not tell; default: 64 channels each (ViT-H: '
        '80, ViT-g: 88)',
        {'type': COUNT},
    ),
    'decoder_num_heads': ('--decoder-num-heads', 'of the decoder; default: 16, of PiLaMIM 12', {'type': COUNT}),
    'encoder': (
        '--encoder',
        'both: the whole state but the optimiser (default), whose features are those of the target encoder; or one of '
        'the encoders alone, for features only: timm and Hugging Face have "encoder"',
        {'choices': ('both', 'target_encoder', 'encoder')},
    ),
    'normalize': (
        '--raw-pixels',
        'the model was trained on raw, not on normalised pixels',
        {'action': 'store_false', 'default': None},
    ),
}


def build_parser(name: str | None = None) -> ToolParser:
    """The command line.

    Args:
        name: A key of :data:`mmmim.converters.registry.CONVERTERS`, for the command line of this converter; None for
            that of all of them.
    """
    example = '' if name is None else f', e.g. {CONVERTERS[name].example}'
    parser = ToolParser(
        description=__doc__ if name is None else f"Convert a file to mmmim's format: {CONVERTERS[name].what}."
    )
    parser.add_argument(
        'src', help=f'file to convert{example}; or a name of published weights (mmmim list --pretrained)'
    )
    parser.add_argument('dst', help='file to write')
    if name is None:
        layouts = '; '.join(f'{converter.name}: {converter.what}' for converter in CONVERTERS.values())
        parser.add_argument(
            '--from', dest='name', choices=list(CONVERTERS), help=f'what SRC is, instead of finding out: {layouts}'
        )
    for key, (flag, words, how) in _OPTIONS.items():
        takers = [converter.name for converter in CONVERTERS.values() if key in converter.options]
        if name is None:
            words = f'{", ".join(takers)}: {words}'
        if name is None or name in takers:
            parser.add_argument(flag, dest=key, help=words, **how)
    add_trust_option(parser)
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None, name: str | None = None) -> None:
    """Convert a file and say what the model is.

    Args:
        argv: Words of the command line; None for those of the program.
        name: Key of the converter, see :func:`build_parser`; None to find out what the file is.
    """
    args = build_parser(name).parse_args(argv)
    name = name or args.name

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file

    options = {key: value for key in _OPTIONS if (value := getattr(args, key, None)) is not None}
    row = None if os.path.exists(args.src) else published(args.src)
    if row is not None:
        if row.layout is None:
            raise InputError(f'{row.name} is used as it is, and not converted: {row.encoder or row.tokenizer}.')
        name, options = name or row.layout, {**row.options, **options}
        args.src = str(LocalWeights(row).fetch())
    checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
    converter = CONVERTERS[name] if name else find_converter(checkpoint, args.src)
    if foreign := [_OPTIONS[key][0] for key in options if key not in converter.options]:
        raise InputError(f'{", ".join(foreign)} does not apply to {args.src}: {converter.what} ({converter.name}).')
    if not name:
        print(f'{args.src}: {converter.what} (--from {converter.name})')
    converted = converter.convert(checkpoint, args.src, **options)
    if row is not None:
        set_statistics(converted['mmmim']['model'], row, args.src)
    save_checkpoint_file(converted, args.dst)
    print(f'{args.dst}: {converter.describe(converted)}\nUse it: mmmim.get_model({args.dst!r})')
