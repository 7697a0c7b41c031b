#!/usr/bin/env python
"""Show the patches of images in clusters, as colours, at several cuts of one tree (Latent MIM, figures 6, 9 and 11).

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. The patches of each
image are clustered by themselves, from the bottom up; cuts of one tree are nested. The paper names neither linkage nor
numbers of clusters: the defaults are this toolbox's.
"""

import argparse
import os

from mmmim.cli.arguments import CHECKPOINT, COUNT, NON_NEGATIVE, add_model_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='image files, or folders of images')
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument('--clusters', type=COUNT, nargs='+', help='numbers of clusters (default: 2 4 8)')
    parser.add_argument(
        '--heights', type=NON_NEGATIVE, nargs='+', default=[], help='also, or instead: heights to cut the tree at'
    )
    parser.add_argument(
        '--linkage', default='ward', choices=['ward', 'average'], help="'average' is by cosine distance (default: ward)"
    )
    parser.add_argument('--size', type=COUNT, default=448, help='side of the square images (default: 448)')
    parser.add_argument('--layer', type=int, default=-1, help='block, from 0; negative from the end (default: -1)')
    parser.add_argument(
        '--max-images', type=COUNT, default=8, help='of more images, so many spread evenly are shown (default: 8)'
    )
    parser.add_argument('--out', default='work_dirs/vis_clusters', help='folder, or a file .png (default: %(default)s)')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.cli.inputs import find_images, fitting_size, load_model, model_title
    from mmmim.utils.outputs import picture_files
    from mmmim.utils.progress import progress
    from mmmim.visualization.feature_pictures import patch_features
    from mmmim.visualization.patch_clusters import draw_clusters

    (file,) = picture_files(args.out, ['clusters.png'])
    paths = find_images(args.images, args.max_images)
    extractor = load_model(args)
    size = fitting_size(args.size, extractor)
    examples = [patch_features(extractor, path, size, args.layer) for path in progress(paths, 'images')]

    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    names = [os.path.basename(path) for path in paths]
    clusters = args.clusters or ([] if args.heights else [2, 4, 8])
    model = f'{model_title(args)}, ' + ('last block' if args.layer == -1 else f'block {args.layer}')
    draw_clusters(examples, names, args.linkage, clusters, args.heights, file, model)
    print(f'Wrote {file}.')


if __name__ == '__main__':
    main()
