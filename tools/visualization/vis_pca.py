#!/usr/bin/env python
"""Show the patch features of an encoder as colours, by principal component analysis (CAPI, figures 7, 12 and 13).

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. Two pictures are
written: resolutions.png, with the first three components as RGB at every size, and channels.png, with single components
at the largest size. Components are whitened, of positive skew, and shown over +-2.3 standard deviations.
"""

import argparse
import os

from mmmim.cli.arguments import CHECKPOINT, COUNT, add_model_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='image files, or folders of images')
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument(
        '--sizes', type=COUNT, nargs='+', default=[224, 448, 560], help='sides of the square images (224 448 560)'
    )
    parser.add_argument('--layer', type=int, default=-1, help='block, from 0; negative from the end (default: -1)')
    parser.add_argument('--channels', type=COUNT, default=8, help='components shown one by one (default: 8)')
    parser.add_argument(
        '--mode',
        default='both',
        choices=['image', 'joint', 'both'],
        help='components of each image on its own, of all images together, or both (default)',
    )
    parser.add_argument(
        '--max-images', type=COUNT, default=8, help='of more images, so many spread evenly are shown (default: 8)'
    )
    parser.add_argument('--out', default='work_dirs/vis_pca', help='folder (default: work_dirs/vis_pca)')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.cli.inputs import find_images, fitting_size, load_model, model_title
    from mmmim.utils.names import printable
    from mmmim.utils.outputs import picture_files
    from mmmim.visualization.feature_pictures import draw_channels, draw_resolutions, patch_features

    files = picture_files(args.out, ['resolutions.png', 'channels.png'])
    paths = find_images(args.images, args.max_images)
    extractor = load_model(args)
    sizes = list(dict.fromkeys(fitting_size(asked, extractor) for asked in args.sizes))
    examples = []
    for i, path in enumerate(paths, start=1):
        examples.append([patch_features(extractor, path, size, args.layer) for size in sizes])
        print(f'[{i}/{len(paths)}] {printable(path)}', flush=True)

    os.makedirs(args.out, exist_ok=True)
    names = [os.path.basename(path) for path in paths]
    model = f'{model_title(args)}, ' + ('last block' if args.layer == -1 else f'block {args.layer}')
    draw_resolutions(examples, names, args.mode, files[0], model)
    largest = sizes.index(max(sizes))
    draw_channels([example[largest] for example in examples], names, args.mode, args.channels, files[1], model)
    for file in files:
        print(f'Wrote {file}.')


if __name__ == '__main__':
    main()
