#!/usr/bin/env python
"""Fit the codebook of mmmim.KMeansTokenizer, by k-means, on patches of a training set.

SRC is a config, whose training images go through its own pipeline, or a folder of images, which are resized and cropped
at the centre.
"""

import argparse
import os
from collections.abc import Iterator
from typing import Any

from mmmim.cli.arguments import COUNT, SEED
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('src', help='config file, or folder of images')
    parser.add_argument('out', help='file to write, e.g. data/codebook.pth')
    parser.add_argument('--codes', type=COUNT, default=512, metavar='K', help='number of tokens (default: %(default)s)')
    parser.add_argument('--patch-size', type=COUNT, metavar='P', help="in pixels (default: the config's; folder: 16)")
    parser.add_argument(
        '--patches', type=COUNT, default=200_000, metavar='N', help='about so many are used (default: %(default)s)'
    )
    parser.add_argument('--image-size', type=COUNT, default=224, help='of a folder, in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=0, help='of images and k-means (default: %(default)s)')
    return parser.parse_args()


def training_images(args: argparse.Namespace) -> tuple[dict, bool, int]:
    """Config of the data set, whether its images are BGR, and the size of patches."""
    from mmmim.config.read import load_config
    from mmmim.config.resources import find_config
    from mmmim.utils import InputError

    if os.path.isdir(args.src) and find_config(args.src) is None:
        size = args.image_size
        pipeline = [
            {'type': 'mmmim.LoadImage'},
            {'type': 'mmpretrain.ResizeEdge', 'scale': size, 'edge': 'short', 'interpolation': 'bicubic'},
            {'type': 'mmpretrain.CenterCrop', 'crop_size': size},
            {'type': 'mmpretrain.PackInputs'},
        ]
        return {'type': 'mmmim.ImageFolder', 'data_root': args.src, 'pipeline': pipeline}, True, args.patch_size or 16
    cfg = load_config(args.src)
    for key in ('model', 'train_dataloader'):
        if key not in cfg:
            raise InputError(f'{args.src} has no {key}: give a pre-training config, or a folder of images.')
    bgr = cfg.model.get('data_preprocessor', {}).get('bgr_to_rgb', True)
    return cfg.train_dataloader.dataset, bgr, args.patch_size or cfg.model.backbone.patch_size


def samples(dataset: Any, seed: int) -> Iterator[Any]:
    """Images ``[C, H, W]`` of a data set, once each, in random order unless it is a stream."""
    import torch
    from torch.utils.data import IterableDataset

    if isinstance(dataset, IterableDataset):
        yield from (sample['inputs'] for sample in dataset)
    else:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
        yield from (dataset[index]['inputs'] for index in order.tolist())


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import torch

    from mmmim.checkpoints import save_checkpoint_file
    from mmmim.models.data_preprocessors import swap_red_and_blue
    from mmmim.models.tokenizers import fit_codebook, standardised_patches
    from mmmim.registry import DATASETS

    config, bgr, patch_size = training_images(args)
    torch.manual_seed(args.seed)
    pieces, images, number = [], 0, 0
    for image in samples(DATASETS.build(config), args.seed):
        pixels = (swap_red_and_blue(image) if bgr else image).unsqueeze(0).float() / 255
        pieces.append(standardised_patches(pixels, patch_size)[0])
        images, number = images + 1, number + len(pieces[-1])
        if number >= args.patches:
            break
    channels = pieces[0].shape[1] // patch_size**2
    centres = fit_codebook(torch.cat(pieces), args.codes, args.seed)
    save_checkpoint_file({'centres': centres, 'patch_size': patch_size}, args.out)
    print(
        f'{args.out}: {args.codes} patterns of {patch_size} x {patch_size} pixels, from {number} patches of {images} '
        f"images\nUse it: dict(type='mmmim.KMeansTokenizer', codebook={args.out!r}, num_tokens={args.codes}, "
        f'patch_size={patch_size}{f", in_channels={channels}" if channels != 3 else ""})'
    )


if __name__ == '__main__':
    main()
