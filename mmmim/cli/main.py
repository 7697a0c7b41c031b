"""The command ``mmmim``: one name for what ``tools/`` has.

Importing this module, and the help of the command, are cheap: a subcommand's module is imported when it is called.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from mmmim.utils import InputError
from mmmim.version import __version__

from .parser import ToolParser
from .program import user_errors


class Command(NamedTuple):
    """A subcommand: a module with ``main()``, which reads ``sys.argv``, and what it does, in a line."""

    module: str
    words: str


#: The subcommands. A new one is a line here, and a module whose ``main()`` returns None or an exit status.
COMMANDS = {
    'train': Command('mmmim.cli.train', 'train a model'),
    'test': Command('mmmim.cli.test', 'run the test loop of a config and print its metrics'),
    'benchmark': Command('mmmim.cli.benchmark', 'many protocols over several encoders: a table and a page'),
    'convert': Command('mmmim.cli.convert', "weights of other programs to mmmim's format"),
    'download': Command('mmmim.cli.download', 'published weights, before a machine without network needs them'),
    'export': Command('mmmim.cli.export', 'the encoder of a checkpoint for timm, Hugging Face, ONNX and others'),
    'extract': Command('mmmim.cli.extract', 'the features of a folder of images to a file'),
    'parity': Command('mmmim.cli.parity', 'replay a recorded run of a method and compare every quantity'),
    'browse': Command('mmmim.cli.browse', 'a picture of a batch before any training: images, masks, targets'),
    'stats': Command('mmmim.cli.stats', 'channels, bits, sizes, mean and deviation of a folder of images'),
    'runs': Command('mmmim.cli.runs', 'trainings side by side: progress, losses, scores'),
    'list': Command('mmmim.cli.list_configs', 'names of the configs that come with mmmim'),
    'new-method': Command('mmmim.cli.new_method', 'the project of a method of your own: modules, config, test, page'),
    'config': Command('mmmim.cli.show_config', 'print a config with all that it inherits and your options'),
}


def build_parser() -> ToolParser:
    """The command line up to the name of the subcommand; the rest is the subcommand's own."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f'  {name:<{width}}{command.words}' for name, command in COMMANDS.items()]
    parser = ToolParser(
        prog='mmmim',
        usage='mmmim COMMAND ...',
        description='Latent masked image modelling on the OpenMMLab stack.',
        epilog='\n'.join(['commands:', *lines, '', 'mmmim COMMAND --help has the arguments of a command.']),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('command', metavar='COMMAND', help='one of the commands below')
    parser.add_argument('--version', action='version', version=f'mmmim {__version__}')
    return parser


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run a subcommand with the rest of the words.

    Args:
        argv: Words of the command line, the subcommand first; None for those of the program.

    Returns:
        The exit status of the subcommand; None for success.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = build_parser().parse_args(words[:1]).command
    with user_errors():
        if name not in COMMANDS:
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f'did you mean {close[0]}?' if close else f'there are {", ".join(COMMANDS)}.'
            raise InputError(f'{name!r} is no command of mmmim: {hint}')
    sys.argv = [f'mmmim {name}', *words[1:]]  # a subcommand calls itself by the first word
    return import_module(COMMANDS[name].module).main()


if __name__ == '__main__':
    sys.exit(main())
