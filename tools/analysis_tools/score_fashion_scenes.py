#!/usr/bin/env python
"""Score the frozen features of a model on FashionScenes: class or number of garments, and segmentation."""

import argparse
import os

from mmmim.cli.arguments import CHECKPOINT, COUNT, FEATURES, SEED, add_cfg_options, add_model_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument('checkpoint', nargs='?', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument('--pixels', type=COUNT, metavar='PATCH_SIZE', help='score raw pixels instead of a model')
    parser.add_argument('--subset', choices=['single', 'multi'], default='single')
    parser.add_argument('--split', choices=['val', 'test'], default='val', help='where to score (default: val)')
    parser.add_argument(
        '--pool',
        nargs='+',
        metavar='NAME',
        help=f'features of whole images to score, {FEATURES} (default: all pooled cls predicted)',
    )
    parser.add_argument(
        '--leave-one-out',
        action='store_true',
        help='also score by the nearest neighbour inside the split itself, as Latent MIM does',
    )
    parser.add_argument('--rankme', action='store_true', help='also measure RankMe of the features')
    parser.add_argument('--data-root', default='data/fashion_scenes')
    parser.add_argument('--seed', type=SEED, default=0, help='of a random initialisation')
    parser.add_argument('--out', metavar='FILE.json', help='also write the scores to this file')
    add_cfg_options(parser)
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json

    import torch
    from mmengine.registry import init_default_scope

    import mmmim
    from mmmim.cli.inputs import load_model, pick_device
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.evaluation.probes.fashion_scenes import POOLINGS, pixel_features, score
    from mmmim.features.labelled_images import extractor
    from mmmim.features.names import check_pooling
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.outputs import check_file, check_folder
    from mmmim.utils.tables import markdown_table

    if (args.checkpoint is None) == (args.pixels is None):
        raise InputError('Give a model or --pixels, one of the two.')
    if args.cfg_options and not (args.checkpoint or '').endswith('.py'):
        raise InputError('--cfg-options changes a config: give one as the model.')
    poolings = args.pool or POOLINGS
    for name in poolings:
        check_pooling(name)
    if args.out is not None:
        check_file(args.out)
        check_folder(os.path.dirname(os.path.abspath(args.out)))
    init_default_scope('mmmim')
    torch.manual_seed(args.seed)
    device = pick_device(args.device)  # refuses one that is not there, whatever is scored
    if args.pixels is not None:
        extract = pixel_features(args.pixels)
    elif args.cfg_options:
        cfg = load_config(args.checkpoint)
        merge_cfg_options(cfg, args.cfg_options)
        model = mmmim.FeatureExtractor(cfg.model.to_dict(), source=args.checkpoint)
        extract = extractor(model.to(device), poolings)
    else:
        extract = extractor(load_model(args, args.seed), poolings)
    scores = score(extract, args.subset, args.split, args.data_root, poolings, args.leave_one_out, args.rankme)
    if absent := [name for name in args.pool or () if f'linear_{name}' not in scores]:
        print(f'There are no features {", ".join(absent)} of this model.')
    print(markdown_table(['score', args.split], [[name, f'{value:.4f}'] for name, value in scores.items()]))
    if args.out is not None:
        write_text_atomically(json.dumps(scores, indent=2) + '\n', args.out)


if __name__ == '__main__':
    main()
