#!/usr/bin/env python
"""Show the features of images in the plane, by t-SNE, in the colours of their classes.

The classes are the sub-folders of DATA, as in ImageNet's layout; a folder without sub-folders has one colour. Images
are resized at the shorter side (bicubic, antialiased) and cropped to the central square. The coordinates are written
beside the picture (.npz: coordinates, labels, classes, paths).
"""

import argparse
import os

from mmmim.cli.arguments import COUNT, FEATURES, POSITIVE, SEED, add_feature_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_feature_options(parser)
    parser.add_argument(
        '--pool',
        default='pooled',
        metavar='NAME',
        help=f'feature of an image, {FEATURES} (default: %(default)s)',
    )
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='sub-folders to show (default: all)')
    parser.add_argument(
        '--max-per-class',
        type=COUNT,
        default=200,
        help='of more images of a class, so many spread evenly are shown (default: %(default)s)',
    )
    parser.add_argument('--perplexity', type=POSITIVE, default=30, help='effective number of neighbours (default: 30)')
    parser.add_argument('--seed', type=SEED, default=0, help='(default: 0)')
    parser.add_argument(
        '--out', default='work_dirs/vis_tsne/tsne.png', metavar='FILE.png', help='(default: %(default)s)'
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import numpy as np
    import torch

    import mmmim
    from mmmim.cli.inputs import find_classes, pick_device
    from mmmim.features.image_files import encode_files
    from mmmim.utils.outputs import check_folder, check_picture
    from mmmim.visualization.tsne import draw_tsne, tsne

    check_picture(args.out)
    check_folder(os.path.dirname(os.path.abspath(args.out)))
    found = find_classes(args.data, args.classes, args.max_per_class)
    paths = [path for images in found.values() for path in images]
    torch.manual_seed(args.seed)  # of random weights
    model = mmmim.get_model(args.checkpoint, args.weights, str(pick_device(args.device)), args.trust_checkpoint)
    encoded = encode_files(model, paths, [args.pool], args.size, args.batch_size, args.workers)
    labels = np.repeat(np.arange(len(found)), [len(images) for images in found.values()])[encoded.index]
    print(f't-SNE of {len(labels)} features ...', flush=True)
    coordinates = tsne(encoded.features[args.pool], args.perplexity, args.seed)

    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    weights = '' if args.checkpoint.endswith(('.pth', '.pt')) else ' (random initialisation)'
    title = f'{args.checkpoint}{weights}\nfeature: {args.pool}, {len(labels)} images of {args.data}'
    caption = f't-SNE at perplexity {args.perplexity:g} by cosine, images of {encoded.size} px. Directions and '
    caption += 'distances between far groups mean nothing.'
    draw_tsne(coordinates, labels, list(found), args.out, title, caption)
    file = f'{os.path.splitext(args.out)[0]}.npz'
    np.savez(
        file,
        coordinates=coordinates,
        labels=labels,
        classes=np.array(list(found)),
        paths=np.array(paths)[encoded.index],
    )
    print(f'Wrote {args.out} and {file}.')


if __name__ == '__main__':
    main()
