"""Train a model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mmmim.config.trackers import add_tracker
from mmmim.utils import InputError

from .arguments import add_cfg_options, add_pretrained_options, add_run_options
from .parser import ToolParser
from .program import user_errors
from .run import Command, latest_checkpoint, run


def build_parser() -> ToolParser:
    """The command line."""
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
    parser.add_argument(
        '--init',
        metavar='FILE',
        help='pre-training starts from this encoder, student and teacher alike: a checkpoint of mmmim of any method '
        "(--weights chooses the student's), a converted, exported or published file, timm:NAME=FILE, or a folder of "
        'Hugging Face; the log says in one line what starts anew. A training that is resumed keeps its weights',
    )
    parser.add_argument(
        '--tracker',
        metavar='NAME',
        help='also write curves and pictures for this program: tensorboard, wandb (offline), mlflow or aim',
    )
    add_pretrained_options(parser)
    add_cfg_options(parser, 'train_cfg.max_iters=100 train_dataloader.num_workers=4')
    add_run_options(parser)
    return parser


def set_amp(cfg: Any, dtype: str = 'bfloat16') -> None:
    """Make the optimiser wrapper of a config train in mixed precision."""
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


def _resumed_file(cfg: Any, path: str) -> str:
    """The checkpoint that ``--resume PATH`` names: a file, or the latest of the work folder of a training."""
    if os.path.isdir(path):
        latest, remarks = latest_checkpoint(cfg, path)
        for remark in remarks:
            print(f'WARNING: {remark}')
        if latest is None:
            raise InputError(f'--resume: there is no checkpoint of a training in the folder {path}.')
        return latest
    if not os.path.isfile(path):
        raise InputError(f'--resume: the checkpoint {path} does not exist.')
    return path


def _prepare(cfg: Any, args: argparse.Namespace) -> str | None:
    """Change a config by the arguments; the checkpoint that is resumed, where the config needs an encoder of it."""
    from mmmim.apis.downstream import wants_pretrained

    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.force_lock:
        cfg.force_lock = True
    if args.amp:
        set_amp(cfg, args.amp)
    if args.tracker is not None:
        add_tracker(cfg, args.tracker)
    if args.init is not None:
        if args.pretrained is not None:
            raise InputError('--init is for pre-training, --pretrained for downstream tasks: leave one of them out.')
        cfg.init = {'source': args.init, 'weights': args.weights}
        args.weights = 'auto'
    resumed = args.resume
    if resumed == 'auto':
        cfg.resume = 'auto'
    elif resumed is not None:
        resumed = _resumed_file(cfg, resumed)
        cfg.resume, cfg.load_from = True, resumed
    if resumed is None or args.pretrained is not None or not wants_pretrained(cfg):
        return None
    return latest_checkpoint(cfg, cfg.work_dir)[0] if resumed == 'auto' else resumed


def _complete(cfg: Any, args: argparse.Namespace) -> None:
    """Scale the rate."""
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InputError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size, the batch that its rate '
                'is for; --cfg-options +auto_scale_lr.base_batch_size=... adds it.'
            )
        cfg.auto_scale_lr.enable = True


def _start(cfg: Any) -> None:
    from mmmim.apis.initial import check_start
    from mmmim.registry import build_runner

    check_start(cfg)
    build_runner(cfg).train()


COMMAND = Command(
    'trained',
    ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'),
    tested=lambda cfg, args: None,
    prepare=_prepare,
    complete=_complete,
)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Train.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    run(build_parser().parse_args(argv), COMMAND, _start)
