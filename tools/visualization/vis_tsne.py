#!/usr/bin/env python
"""Show the features of images in the plane, by t-SNE, in the colours of their classes; or the patches of one image.

The classes are the sub-folders of DATA, as in ImageNet's layout; a folder without sub-folders has one colour. Images
are resized at the shorter side (bicubic, antialiased) and cropped to the central square. The coordinates are written
beside the picture (.npz: coordinates, labels, classes, paths).

With --clusters, DATA is an image: a dot is one of its patches, in the colour of its cluster, which stands over the
image beside (Latent MIM, figure 10), in the plane of t-SNE and in that of the first two principal components (.npz:
coordinates, components, labels).
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
        metavar='NAME',
        help=f'feature of an image, {FEATURES} (default: pooled)',
    )
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='sub-folders to show (default: all)')
    parser.add_argument(
        '--max-per-class',
        type=COUNT,
        default=200,
        help='of more images of a class, so many spread evenly are shown (default: %(default)s)',
    )
    parser.add_argument(
        '--clusters', type=COUNT, metavar='K', help='show the patches of the image DATA, in the colours of K clusters'
    )
    parser.add_argument(
        '--linkage', default='ward', choices=['ward', 'average'], help='of the clusters, see vis_clusters.py'
    )
    parser.add_argument('--layer', type=int, default=-1, help='block of the patches, from 0 or the end (default: -1)')
    parser.add_argument('--perplexity', type=POSITIVE, default=30, help='effective number of neighbours (default: 30)')
    parser.add_argument('--seed', type=SEED, default=0, help='(default: 0)')
    parser.add_argument(
        '--out', default='work_dirs/vis_tsne/tsne.png', metavar='FILE.png', help='(default: %(default)s)'
    )
    return parser.parse_args()


def images(args: argparse.Namespace) -> list[str]:
    """A dot per image; the files that are written."""
    import numpy as np

    from mmmim.cli.inputs import find_classes, load_model, model_title
    from mmmim.features.image_files import encode_files
    from mmmim.visualization.tsne import draw_tsne, tsne

    pool = args.pool or 'pooled'
    found = find_classes(args.data, args.classes, args.max_per_class)
    paths = [path for of_class in found.values() for path in of_class]
    model = load_model(args, args.seed)
    encoded = encode_files(model, paths, [pool], args.size, args.batch_size, args.workers)
    labels = np.repeat(np.arange(len(found)), [len(of_class) for of_class in found.values()])[encoded.index]
    print(f't-SNE of {len(labels)} features ...', flush=True)
    coordinates = tsne(encoded.features[pool], args.perplexity, args.seed)

    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    title = f'{model_title(args)}\nfeature: {pool}, {len(labels)} images of {args.data}'
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
    return [args.out, file]


def patches(args: argparse.Namespace) -> list[str]:
    """A dot per patch of one image; the files that are written."""
    import numpy as np

    from mmmim.cli.inputs import find_images, fitting_size, load_model, model_title
    from mmmim.utils import InputError
    from mmmim.visualization.feature_pictures import patch_features
    from mmmim.visualization.patch_clusters import LINKAGES, draw_patch_map, tree_of
    from mmmim.visualization.pca import pca_components
    from mmmim.visualization.tsne import tsne

    if args.pool is not None or args.classes is not None:
        raise InputError('--clusters shows the patches of one image: leave --pool and --classes out.')
    if os.path.isdir(args.data):
        raise InputError(f'--clusters shows the patches of one image, and {args.data} is a folder: name a file in it.')
    (path,) = find_images([args.data], 1)
    model = load_model(args, args.seed)
    size = fitting_size(args.size or model.image_size, model)
    example = patch_features(model, path, size, args.layer)
    labels = tree_of(example, args.linkage).cut(args.clusters)
    maps = {
        't-SNE': tsne(example.patches, args.perplexity, args.seed, 'patches'),
        'principal components': pca_components(example.patches, 2).numpy(),
    }

    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    block = 'last block' if args.layer == -1 else f'block {args.layer}'
    caption = (
        f'A dot is a patch. Clusters: {LINKAGES[args.linkage]}. t-SNE at perplexity {args.perplexity:g} by cosine: '
    )
    caption += 'directions and distances between far groups mean nothing. Components are whitened.'
    title = f'{model_title(args)}, {block}: {len(example.patches)} patches of {os.path.basename(path)}, {size} px'
    draw_patch_map(example, labels, maps, args.out, title, caption)
    file = f'{os.path.splitext(args.out)[0]}.npz'
    np.savez(file, coordinates=maps['t-SNE'], components=maps['principal components'], labels=labels)
    return [args.out, file]


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.utils.outputs import check_folder, check_picture

    check_picture(args.out)
    check_folder(os.path.dirname(os.path.abspath(args.out)))
    files = images(args) if args.clusters is None else patches(args)
    print(f'Wrote {" and ".join(files)}.')


if __name__ == '__main__':
    main()
