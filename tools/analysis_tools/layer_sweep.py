#!/usr/bin/env python
"""Test a fitted protocol on the features of every layer of an encoder: a table, a curve and a JSON file.

The images pass through the encoder once, for all layers; features that are in the cache are not extracted again.
"""

import argparse
import os
from typing import Any

from mmmim.cli.arguments import add_cfg_options, add_pretrained_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with a probe that is fitted, such as configs/eval/seg_knn_fashion.py')
    add_pretrained_options(parser)
    parser.add_argument(
        '--layers', nargs='+', type=int, help='blocks, counted from 0; negative ones from the end (default: all)'
    )
    parser.add_argument(
        '--work-dir', help='folder of the results (default: work_dirs/layer_sweep/<name of the config>)'
    )
    add_cfg_options(parser, 'test_cfg.probe.k=[10]')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    return parser.parse_args()


def build_config(args: argparse.Namespace) -> Any:
    """The config of a command line, with the layers."""
    from mmmim.apis.downstream import apply_pretrained, set_encoder
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.engine.protocols import fits
    from mmmim.utils import InputError

    cfg = load_config(args.config)
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    if not fits(cfg):
        raise InputError(f'{args.config} fits no probe: test_cfg.type must be mmmim.FitTestLoop.')
    set_encoder(cfg, args.encoder)
    merge_cfg_options(cfg, args.cfg_options)
    cfg.depth = 'pretrained:depth'
    apply_pretrained(cfg, args.pretrained, args.weights)
    depth = cfg.pop('depth')
    layers = range(depth) if args.layers is None else args.layers
    outside = [layer for layer in layers if not -depth <= layer < depth]
    if outside:
        raise InputError(f'--layers: there is no block {outside[0]}: the encoder has {depth}, 0 to {depth - 1}.')
    cfg.model.backbone.out_indices = sorted({layer % depth for layer in layers})
    cfg.launcher, cfg.load_from, cfg.resume = args.launcher, None, False
    name = os.path.splitext(os.path.basename(args.config))[0]
    cfg.work_dir = args.work_dir or os.path.join('work_dirs', 'layer_sweep', name)
    return cfg


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json

    from mmengine.dist import is_main_process

    from mmmim.checkpoints.mapped import reading_once
    from mmmim.engine.protocols import run_protocol
    from mmmim.evaluation.probes.fitted import setting_text
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.tables import markdown_table
    from mmmim.visualization.layer_curves import draw_layer_curves

    with reading_once():
        cfg = build_config(args)
        records = run_protocol(cfg).records
    if not is_main_process():
        return
    names = list(records[0]['scores'])
    rows = [
        [
            str(record['layer']),
            *(f'{record["scores"][name]:.2f}' for name in names),
            setting_text(record['setting']),
        ]
        for record in records
    ]
    table = markdown_table(['block', *names, 'chosen'], rows)
    print(f'\n{table}\n')
    about = {'config': args.config, 'pretrained': args.pretrained, 'encoder': args.encoder, 'weights': args.weights}
    path = os.path.join(cfg.work_dir, 'layer_sweep')
    write_text_atomically(json.dumps({'about': about, 'layers': records}, indent=1) + '\n', f'{path}.json')
    write_text_atomically(f'{args.config}, {args.pretrained}, {args.weights} weights\n\n{table}\n', f'{path}.md')
    title = f'{os.path.splitext(os.path.basename(args.config))[0]}, {args.pretrained}'
    draw_layer_curves(records, f'{path}.png', title)
    print(f'Wrote {path}.json, .md and .png.')


if __name__ == '__main__':
    main()
