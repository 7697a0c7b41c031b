#!/usr/bin/env python
"""Measure how far the patches of an encoder look: averaged attention distance per block and head.

The distance between centres of patches, in pixels of the input, weighted by the softmax attention from patch to patch
(what goes to CLS, proxies and registers is left out, and rows are normalised again), averaged over patches and images.
Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. Prints a table and
writes attention_distance.json and attention_distance.png.
"""

import argparse
import json
import os

from mmmim.cli.arguments import CHECKPOINT, COUNT, add_model_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
from mmmim.utils.progress import progress


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument('folder', metavar='FOLDER', help='folder of images')
    parser.add_argument(
        '--max-images', type=COUNT, default=128, help='of more images, so many spread evenly are used (default: 128)'
    )
    parser.add_argument('--size', type=COUNT, help="side of the square images (default: the training's)")
    parser.add_argument('--batch', type=int, default=8, help='images at a time (default: 8)')
    parser.add_argument(
        '--out', default='work_dirs/attention_distance', help='folder, or a file .png (default: %(default)s)'
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import numpy as np
    import torch

    from mmmim.cli.inputs import find_images, fitting_size, load_model, model_title
    from mmmim.datasets.squares import read_square
    from mmmim.features.attention_maps import attention_distance, visit_attention
    from mmmim.models.layers import patch_grid
    from mmmim.utils import InputError
    from mmmim.utils.outputs import picture_files
    from mmmim.utils.tables import markdown_table
    from mmmim.visualization.attention import draw_attention_distance

    if args.batch < 1:
        raise InputError(f'--batch must be at least 1, got {args.batch}.')
    (picture,) = picture_files(args.out, ['attention_distance.png'])
    paths = find_images([args.folder], args.max_images)
    extractor = load_model(args)
    patch_size = extractor.patch_size
    size = fitting_size(args.size or extractor.image_size, extractor)
    grid = patch_grid((size, size), patch_size)
    sums: dict[int, torch.Tensor] = {}

    def add(layer: int, attention: torch.Tensor) -> None:
        extra = attention.shape[-1] - grid[0] * grid[1]
        distance = attention_distance(attention, grid, patch_size, extra).sum(dim=0).cpu().double()
        sums[layer] = sums.get(layer, 0) + distance

    batches = [paths[i : i + args.batch] for i in range(0, len(paths), args.batch)]
    for batch in progress(batches, 'batches'):
        images = torch.from_numpy(
            np.stack([read_square(path, size, extractor.in_channels, extractor.window) for path in batch])
        ).permute(0, 3, 1, 2)
        visit_attention(extractor.backbone, extractor.preprocess(images), add)
    distances = torch.stack([sums[layer] for layer in sorted(sums)]).numpy() / len(paths)

    header = ['block', 'mean', *(f'head {head}' for head in range(distances.shape[1]))]
    rows = [
        [str(layer), f'{row.mean():.1f}', *(f'{value:.1f}' for value in row)] for layer, row in enumerate(distances)
    ]
    title = f'{model_title(args)}, {len(paths)} images of {size} px'
    print(f'Attention distance in pixels: {title}\n\n{markdown_table(header, rows)}\n')
    os.makedirs(os.path.dirname(os.path.abspath(picture)), exist_ok=True)
    files = [f'{os.path.splitext(picture)[0]}.json', picture]
    result = {
        'checkpoint': args.checkpoint,
        'weights': args.weights,
        'images': len(paths),
        'size': size,
        'patch_size': patch_size,
        'mean': distances.mean(axis=1).tolist(),
        'distance': distances.tolist(),
    }
    with open(files[0], 'w') as file:
        json.dump(result, file, indent=2)
    draw_attention_distance(distances, files[1], title)
    for name in files:
        print(f'Wrote {name}.')


if __name__ == '__main__':
    main()
