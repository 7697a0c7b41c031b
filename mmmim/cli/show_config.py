"""Print a config with all that it inherits and the options of the command line, as a config file that stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config

from .arguments import add_cfg_options
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('config', help='config file, or the name of one that comes with mmmim (mmmim list)')
    add_cfg_options(parser, 'train_cfg.max_iters=100')
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the config.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)
    cfg = load_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    print(cfg.pretty_text, end='')
