#!/usr/bin/env python
"""Measure a training step of a config: seconds by part, images and FLOPs per second, memory.

Images are noise in memory unless --data asks for the config's own; nothing is saved. Medians over --steps iterations.
"""

import argparse
import logging
import os
import tempfile
from typing import Any

from mmmim.cli.arguments import COUNT, NATURAL, add_cfg_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--steps', type=COUNT, default=10, help='iterations that are measured (default: 10)')
    parser.add_argument('--warmup', type=NATURAL, default=3, help='iterations before those (default: 3)')
    parser.add_argument('--batch', type=COUNT, help="images per process (default: the config's)")
    parser.add_argument('--threads', type=COUNT, help="threads on a CPU (default: torch's)")
    parser.add_argument(
        '--profile', type=NATURAL, default=0, metavar='N', help='also name the N largest items of a step'
    )
    parser.add_argument('--json', metavar='FILE', help='also write what was measured to a file')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--synthetic', action='store_true', help='noise images in memory (the default)')
    source.add_argument('--data', action='store_true', help="the config's own data loader")
    add_cfg_options(parser)
    return parser.parse_args()


def build_config(args: argparse.Namespace, work_dir: str) -> Any:
    """The config of a command line, which trains for a few steps and leaves nothing behind."""
    import torch

    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.images import training_channels, training_image_size
    from mmmim.config.read import load_config
    from mmmim.utils import InputError

    cfg = load_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise InputError(f'{args.config} cannot be trained: it has no {key}.')
    if args.batch is not None:
        cfg.global_batch_size, cfg.train_dataloader.batch_size = None, args.batch
    if not args.data:
        for key in ('sampler', 'batch_sampler', 'dataset'):  # `update` would merge the old ones in
            cfg.train_dataloader.pop(key, None)
        cfg.train_dataloader.update(
            num_workers=0,
            pin_memory=torch.cuda.is_available(),
            sampler=dict(type='mmmim.PositionSampler', shuffle=False),
            dataset=dict(
                type='mmmim.SeededDataset',
                dataset=dict(
                    type='mmmim.SyntheticImages', size=training_image_size(cfg), channels=training_channels(cfg)
                ),
            ),
        )
    cfg.work_dir, cfg.resume, cfg.load_from = work_dir, False, None
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = cfg.probe_data = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.train_cfg.max_iters = args.warmup + args.steps + 1
    # What writes files at the end of a training or at long intervals is not part of a step.
    writing = ('mmmim.CurvesHook', 'mmmim.PicturesHook', 'mmmim.ReportHook')
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] not in writing]
    cfg.default_hooks.probe = None
    cfg.default_hooks.checkpoint = dict(type='mmmim.CheckpointHook', by_epoch=False, interval=2**31, save_last=False)
    cfg.visualizer = dict(type='mmengine.Visualizer')
    cfg.log_level = 'WARNING'
    return cfg


def report(args: argparse.Namespace, result: dict[str, Any]) -> str:
    """The result as text."""
    import torch

    from mmmim.cost.step import PARTS
    from mmmim.utils.machine import gigabytes
    from mmmim.utils.tables import markdown_table

    seconds, giga = result['seconds'], 1e9
    speed = result['flops'] / seconds['iteration']
    rows = [[part, f'{seconds[part]:.4f}', f'{seconds[part] / seconds["iteration"]:.1%}'] for part in PARTS]
    rows.append(['iteration', f'{seconds["iteration"]:.4f}', ''])
    rows.append(['bare step', f'{seconds["bare step"]:.4f}', ''])
    largest = [[f'`{name}`', f'{share:.1%}'] for name, share in result['largest']]
    on_cpu = result['device'].startswith('CPU')
    threads = f', {torch.get_num_threads()} threads' if on_cpu else ''
    what = f'resident, of which libraries {gigabytes(result["libraries"])}' if on_cpu else 'allocated'
    return '\n'.join(
        [
            f'{args.config} {" ".join(args.cfg_options)}',
            f'{result["device"]}{threads}, torch {torch.__version__}, {result["dtype"]}, {result["images"]} images, '
            f'{"config data" if args.data else "synthetic images"}; medians of {result["steps"]} iterations',
            '',
            markdown_table(['part', 'seconds', 'share'], rows),
            '',
            f'images/s: {result["images_per_s"]:.2f}',
            f'hooks over the bare step: {seconds["hooks"] / seconds["bare step"]:.2%}',
            f'GFLOPs of a step: {result["flops"] / giga:.1f}; per second: {speed / giga:.1f}, '
            f'{result["utilisation"]:.1%} of the {result["peak_flops"] / giga:.1f} of matrix products',
            f'peak memory: {gigabytes(result["memory"])} {what}',
            *(['', markdown_table(['largest items of a step', 'share'], largest)] if largest else []),
        ]
    )


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as work_dir:
        cfg = build_config(args, work_dir)

        from mmmim.cost.step import measure, peak_memory
        from mmmim.engine import Runner

        libraries = peak_memory(torch.device('cpu'))
        result = measure(Runner.from_cfg(cfg), args.warmup, libraries, args.profile)
        logging.shutdown()  # of the log file in the folder that goes
    print(report(args, result))
    if args.json:
        import json

        from mmmim.utils.atomic import write_text_atomically

        write_text_atomically(json.dumps({**result, 'torch': torch.__version__}, indent=1) + '\n', args.json)


if __name__ == '__main__':
    os.environ.setdefault('LOCAL_RANK', '0')
    main()
