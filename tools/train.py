#!/usr/bin/env python
"""Train a model."""

import argparse
import os
from typing import Any

from mmmim.cli.arguments import add_cfg_options, add_pretrained_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
from mmmim.utils.output import keep_writing


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(
        description=__doc__,
        epilog='SIGTERM, SIGUSR1, SIGHUP and Ctrl-C let it finish its step, save a checkpoint for --resume and end '
        'with status 128 + signal; a second Ctrl-C ends it at once (docs/en/running.md).',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or the latest one of this folder; without a path, from the latest one in '
        'the work folder, if there is one',
    )
    parser.add_argument(
        '--force-lock',
        action='store_true',
        help='train although another training seems to use the work folder: for one that is known to be dead',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bfloat16',
        choices=['bfloat16', 'float16'],
        help='train in mixed precision: bfloat16 (the default), or float16 with loss scaling',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate during training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size (needs auto_scale_lr.base_batch_size in the config)',
    )
    add_pretrained_options(parser)
    add_cfg_options(parser, 'train_cfg.max_iters=100 train_dataloader.num_workers=4')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def set_amp(cfg: Any, dtype: str = 'bfloat16') -> None:
    """Make the optimiser wrapper of a config train in mixed precision."""
    from mmmim.utils import InputError

    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind == 'mmmim.OptimWrapper':
        wrapper.dtype = dtype
    elif kind in ('OptimWrapper', 'AmpOptimWrapper', 'mmengine.OptimWrapper', 'mmengine.AmpOptimWrapper'):
        import torch

        if not torch.cuda.is_available():
            raise InputError('--amp with the AmpOptimWrapper of mmengine needs a GPU: leave --amp out.')
        wrapper.type = 'mmengine.AmpOptimWrapper'
        wrapper.dtype = dtype
        # bfloat16 has the range of fp32.
        wrapper.setdefault('loss_scale', 1.0 if dtype == 'bfloat16' else 'dynamic')
    else:
        raise InputError(f'--amp does not know optim_wrapper.type {kind}: set its precision in the config.')


def resumed_file(cfg: Any, path: str) -> str:
    """The checkpoint that ``--resume PATH`` names: a file, or the latest of the work folder of a training."""
    from mmmim.checkpoints.folder import CheckpointFolder
    from mmmim.utils import InputError

    if os.path.isdir(path):
        hook = (cfg.get('default_hooks') or {}).get('checkpoint')
        latest, remarks = CheckpointFolder.of_config(path, hook).find_latest(cfg.get('trust_checkpoint', False))
        for remark in remarks:
            print(f'WARNING: {remark}')
        if latest is None:
            raise InputError(f'--resume: there is no checkpoint of a training in the folder {path}.')
        return latest
    if not os.path.isfile(path):
        raise InputError(f'--resume: the checkpoint {path} does not exist.')
    return path


def set_pretrained(cfg: Any, args: argparse.Namespace) -> None:
    """Give a downstream task its encoder: that of ``--pretrained``, else that of the checkpoint that is resumed."""
    from mmmim.apis.downstream import apply_pretrained, apply_trained, wants_pretrained
    from mmmim.checkpoints.folder import CheckpointFolder

    resumed = args.resume
    if args.pretrained is None and wants_pretrained(cfg):
        if resumed == 'auto':
            hook = (cfg.get('default_hooks') or {}).get('checkpoint')
            resumed, _ = CheckpointFolder.of_config(cfg.work_dir, hook).find_latest(cfg.get('trust_checkpoint', False))
        if resumed is not None:
            apply_trained(cfg, resumed)
            return
    apply_pretrained(cfg, args.pretrained, args.weights)


def build_config(args: argparse.Namespace) -> Any:
    """The config of a command line."""
    from mmmim.apis.downstream import set_encoder
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.engine.config_check import check_config
    from mmmim.utils import InputError

    cfg = load_config(args.config)
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    set_encoder(cfg, args.encoder)
    merge_cfg_options(cfg, args.cfg_options)
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise InputError(f'{args.config} cannot be trained: it has no {key}.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.force_lock:
        cfg.force_lock = True
    if args.amp:
        set_amp(cfg, args.amp)
    if args.resume == 'auto':
        cfg.resume = 'auto'
    elif args.resume is not None:
        args.resume = resumed_file(cfg, args.resume)
        cfg.resume, cfg.load_from = True, args.resume
    set_pretrained(cfg, args)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InputError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size, the batch that its rate '
                'is for; --cfg-options +auto_scale_lr.base_batch_size=... adds it.'
            )
        cfg.auto_scale_lr.enable = True
    check_config(cfg)
    try:
        os.makedirs(cfg.work_dir, exist_ok=True)
    except OSError as error:
        raise InputError(f'The work folder {cfg.work_dir} cannot be made: {error.strerror}.') from error
    return cfg


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()
    keep_writing()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = build_config(args)

    from mmmim.engine import Runner
    from mmmim.registry import RUNNERS

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
