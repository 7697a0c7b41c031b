#!/usr/bin/env python
"""Test a model: run the test loop of a config and print its metrics."""

import argparse
import os
from typing import Any

from mmmim.cli.arguments import add_cfg_options, add_pretrained_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
from mmmim.utils.output import keep_writing


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
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
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_intermixed_args()


def fits(cfg: Any) -> bool:
    """Whether the test loop of a config trains what it tests, on frozen features."""
    from mmmim.registry import LOOPS

    kind = (cfg.get('test_cfg') or {}).get('type')
    return bool(getattr(LOOPS.get(kind) if isinstance(kind, str) else kind, 'fits', False))


def check_checkpoint(args: argparse.Namespace, fitted: bool) -> None:
    """Refuse to test what was never trained."""
    from mmmim.utils import InputError

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


def take_trained_model(cfg: Any, checkpoint: str) -> None:
    """Make the model of a downstream task what it was trained as; the config's own says only how it is trained now."""
    from mmmim.apis.downstream import apply_trained
    from mmmim.config.differences import describe_changes

    model = apply_trained(cfg, checkpoint)
    if changes := describe_changes({'model': cfg.model.to_dict()}, {'model': model}):
        print(f'The model is that of {checkpoint}, which differs from the config: {"; ".join(changes)}')
    cfg.model = model


def build_config(args: argparse.Namespace) -> Any:
    """The config of a command line."""
    from mmmim.apis.downstream import apply_pretrained, set_encoder, wants_pretrained
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.engine.config_check import check_config
    from mmmim.utils import InputError
    from mmmim.utils.outputs import check_file

    cfg = load_config(args.config)
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    if args.checkpoint is not None and args.pretrained is None and wants_pretrained(cfg) and not fits(cfg):
        take_trained_model(cfg, args.checkpoint)
    set_encoder(cfg, args.encoder)
    merge_cfg_options(cfg, args.cfg_options)
    for key in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        if cfg.get(key) is None:
            raise InputError(f'{args.config} cannot be tested: it has no {key}.')
    check_checkpoint(args, fits(cfg))
    apply_pretrained(cfg, args.pretrained, args.weights)
    if args.out is not None:
        check_file(args.out)
        if not os.path.isdir(os.path.dirname(os.path.abspath(args.out))):
            raise InputError(f'--out: the folder of {args.out} does not exist.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    cfg.load_from, cfg.resume = args.checkpoint, False
    check_config(cfg)
    return cfg


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print a table."""
    width = max([len(key) for key in metrics] + [len('metric')])
    print(f'\n{"metric":<{width}}  {"value":>12}\n{"-" * (width + 14)}')
    for key, value in metrics.items():
        print(f'{key:<{width}}  {value:>12.4f}' if isinstance(value, float) else f'{key:<{width}}  {value!s:>12}')


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()
    keep_writing()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = build_config(args)

    import json

    from mmmim.engine import Runner
    from mmmim.registry import RUNNERS
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.plain import to_plain

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    metrics = to_plain({key: getattr(value, 'tolist', lambda v=value: v)() for key, value in runner.test().items()})
    if runner.rank == 0:
        print_metrics(metrics)
        if args.out is not None:
            write_text_atomically(json.dumps(metrics, indent=2) + '\n', args.out)


if __name__ == '__main__':
    main()
