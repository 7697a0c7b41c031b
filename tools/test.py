#!/usr/bin/env python
"""Test a model: run the test loop of a config and print its metrics."""

import argparse
import os
from typing import Any

from mmmim.utils.cli import add_cfg_options, user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of the model')
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<name of the config>)')
    parser.add_argument('--out', metavar='FILE.json', help='also write the metrics to this file')
    add_cfg_options(parser, 'test_dataloader.batch_size=64')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def build_config(args: argparse.Namespace) -> Any:
    """The config of a command line."""
    from mmmim.utils import InputError
    from mmmim.utils.cli import load_config, merge_cfg_options

    cfg = load_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    for key in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        if cfg.get(key) is None:
            raise InputError(f'{args.config} cannot be tested: it has no {key}.')
    if not os.path.isfile(args.checkpoint):
        raise InputError(f'The checkpoint {args.checkpoint} does not exist.')
    if args.out is not None and not os.path.isdir(os.path.dirname(os.path.abspath(args.out))):
        raise InputError(f'--out: the folder of {args.out} does not exist.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    cfg.load_from, cfg.resume = args.checkpoint, False
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
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = build_config(args)

    import json

    from mmmim.engine import Runner
    from mmmim.registry import RUNNERS
    from mmmim.utils.checkpoint import to_plain, write_text_atomically

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    metrics = to_plain({key: getattr(value, 'tolist', lambda v=value: v)() for key, value in runner.test().items()})
    if runner.rank == 0:
        print_metrics(metrics)
        if args.out is not None:
            write_text_atomically(json.dumps(metrics, indent=2) + '\n', args.out)


if __name__ == '__main__':
    main()
