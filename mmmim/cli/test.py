"""Test a model: run the test loop of a config and print its metrics."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mmmim.utils import InputError

from .arguments import add_cfg_options, add_pretrained_options, add_run_options
from .parser import ToolParser
from .program import user_errors
from .run import Command, run


def build_parser() -> ToolParser:
    """The command line, of which CHECKPOINT may follow options."""
    parser = ToolParser(description=__doc__, intermixed=True)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint of the model, written by tools/train.py; none for protocols that fit their own probe, which '
        'take --pretrained',
    )
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<name of the config>)')
    parser.add_argument('--out', metavar='FILE.json', help='also write the metrics to this file')
    add_pretrained_options(parser)
    add_cfg_options(parser, 'test_dataloader.batch_size=64')
    add_run_options(parser)
    return parser


def _tested(cfg: Any, args: argparse.Namespace) -> str | None:
    """The checkpoint of a downstream task that brings its encoder along."""
    from mmmim.apis.downstream import wants_pretrained
    from mmmim.engine.protocols import fits

    brings = args.checkpoint is not None and args.pretrained is None and wants_pretrained(cfg) and not fits(cfg)
    return args.checkpoint if brings else None


def _prepare(cfg: Any, args: argparse.Namespace) -> None:
    """Refuse to test what was never trained."""
    from mmmim.engine.protocols import fits

    fitted = fits(cfg)
    if fitted and args.checkpoint is not None:
        raise InputError(
            f'{args.config} fits its own probe to features: give the encoder as --pretrained {args.checkpoint}.'
        )
    if not fitted and args.checkpoint is None:
        pretrained = f' --pretrained {args.pretrained}' if args.pretrained else ''
        raise InputError(
            f'{args.config} would be tested untrained, which measures nothing: train it (tools/train.py {args.config}'
            f'{pretrained}) and give the checkpoint of that training, tools/test.py {args.config} CHECKPOINT.'
        )
    if args.checkpoint is not None and not os.path.isfile(args.checkpoint):
        raise InputError(f'The checkpoint {args.checkpoint} does not exist.')


def _complete(cfg: Any, args: argparse.Namespace) -> None:
    """Look at where the metrics go; the weights are those of the checkpoint."""
    from mmmim.utils.outputs import check_file

    if args.out is not None:
        check_file(args.out)
        if not os.path.isdir(os.path.dirname(os.path.abspath(args.out))):
            raise InputError(f'--out: the folder of {args.out} does not exist.')
    cfg.load_from, cfg.resume = args.checkpoint, False


COMMAND = Command(
    'tested',
    ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'),
    tested=_tested,
    prepare=_prepare,
    complete=_complete,
)


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print a table."""
    width = max([len(key) for key in metrics] + [len('metric')])
    print(f'\n{"metric":<{width}}  {"value":>12}\n{"-" * (width + 14)}')
    for key, value in metrics.items():
        print(f'{key:<{width}}  {value:>12.4f}' if isinstance(value, float) else f'{key:<{width}}  {value!s:>12}')


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Test.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)

    def start(cfg: Any) -> None:
        import json

        from mmengine.dist import is_main_process

        from mmmim.engine.protocols import run_protocol
        from mmmim.utils.atomic import write_text_atomically

        metrics = run_protocol(cfg).metrics
        if is_main_process():
            print_metrics(metrics)
            if args.out is not None:
                write_text_atomically(json.dumps(metrics, indent=2) + '\n', args.out)

    run(args, COMMAND, start)
