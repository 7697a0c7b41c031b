#!/usr/bin/env python
"""Show which patches are like a patch, in its image and in other images (Latent MIM, figure 12).

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. Written are
neighbourhoods.png (of random patches of each image, those of the same image whose cosine similarity reaches a
threshold, which falls from the left to the right), and of two images or more nearest.png (the most similar patch of
each of the most similar other images) and nearest.json. The paper names no thresholds: the defaults are this toolbox's.
"""

import argparse
import json
import os

from mmmim.cli.arguments import CHECKPOINT, COUNT, SEED, SHARE, add_model_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='image files, or folders of images')
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument(
        '--query',
        type=int,
        nargs=2,
        action='append',
        metavar=('ROW', 'COLUMN'),
        help='a patch of every image, from 0; may be given several times (default: random ones)',
    )
    parser.add_argument('--queries', type=COUNT, default=3, help='random patches of each image (default: 3)')
    parser.add_argument('--seed', type=SEED, default=0, help='of the random patches (default: 0)')
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        default=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        help='cosine similarities, from the left to the right (default: 0.9 0.8 0.7 0.6 0.5 0.4)',
    )
    parser.add_argument(
        '--shares',
        type=SHARE,
        nargs='+',
        default=[],
        help='shares of the patches of the image in place of thresholds, e.g. 0.02 0.05 0.1 0.2: for encoders all of '
        'whose patches are similar',
    )
    parser.add_argument('--nearest', type=COUNT, default=6, help='other images shown (default: 6)')
    parser.add_argument('--size', type=COUNT, default=448, help='side of the square images (default: 448)')
    parser.add_argument('--layer', type=int, default=-1, help='block, from 0; negative from the end (default: -1)')
    parser.add_argument(
        '--max-images', type=COUNT, default=8, help='of more images, so many spread evenly are shown (default: 8)'
    )
    parser.add_argument('--out', default='work_dirs/vis_neighbours', help='folder (default: %(default)s)')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.cli.inputs import find_images, fitting_size, load_model, model_title
    from mmmim.utils.outputs import picture_files
    from mmmim.utils.progress import progress
    from mmmim.visualization.attention import patch_queries
    from mmmim.visualization.feature_pictures import patch_features
    from mmmim.visualization.patch_neighbours import draw_nearest, draw_neighbourhoods, nearest_elsewhere, random_places

    paths = find_images(args.images, args.max_images)
    files = picture_files(args.out, ['neighbourhoods.png', *['nearest.png'] * (len(paths) > 1)])
    extractor = load_model(args)
    size = fitting_size(args.size, extractor)
    grid = (size // extractor.patch_size,) * 2
    patch_queries(args.query or [], grid)  # refuses those that are not there
    examples = [patch_features(extractor, path, size, args.layer) for path in progress(paths, 'images')]
    places = [
        [tuple(place) for place in args.query] if args.query else random_places(grid, args.queries, args.seed + i)
        for i in range(len(paths))
    ]

    os.makedirs(os.path.dirname(os.path.abspath(files[0])), exist_ok=True)
    names = [os.path.basename(path) for path in paths]
    model = f'{model_title(args)}, ' + ('last block' if args.layer == -1 else f'block {args.layer}')
    draw_neighbourhoods(examples, names, places, args.thresholds, args.shares, files[0], model)
    if len(paths) > 1:
        found = nearest_elsewhere(examples, places, args.nearest)
        draw_nearest(examples, names, places, found, files[1], model)
        rows = [
            {
                'image': path,
                'patch': list(place),
                'nearest': [
                    {'image': paths[one.image], 'patch': list(divmod(one.patch, grid[1])), 'similarity': one.similarity}
                    for one in nearest
                ],
            }
            for path, asked, of_image in zip(paths, places, found, strict=True)
            for place, nearest in zip(asked, of_image, strict=True)
        ]
        files.append(f'{os.path.splitext(files[1])[0]}.json')
        with open(files[-1], 'w') as file:
            json.dump(rows, file, indent=1)
    for name in files:
        print(f'Wrote {name}.')


if __name__ == '__main__':
    main()
