#!/usr/bin/env python
"""Measure RankMe of a frozen encoder on a folder of images: how many directions its features use (arXiv 2210.02885).

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. RankMe is at most the
number of images and the width of the features: compare it between encoders on the same images.
"""

import argparse

from mmmim.cli.arguments import COUNT, FEATURES, add_feature_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_feature_options(parser)
    parser.add_argument(
        '--pool',
        nargs='+',
        metavar='NAME',
        help=f'features of images, {FEATURES} (default: those of cls and pooled that there are)',
    )
    parser.add_argument(
        '--max-images',
        type=COUNT,
        default=25_600,
        help='of more images, so many spread evenly are used (default: %(default)s)',
    )
    parser.add_argument('--out-dir', default='work_dirs/rankme', help='folder of rankme.json and rankme.md')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json
    from pathlib import Path

    from mmmim.cli.inputs import find_images, load_model
    from mmmim.evaluation.measures.rankme import rankme
    from mmmim.features.image_files import encode_files
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.outputs import check_folder
    from mmmim.utils.tables import markdown_table

    check_folder(args.out_dir, '--out-dir')
    paths = find_images([args.data], args.max_images)
    model = load_model(args)
    device = model.preprocessor.mean.device
    encoded = encode_files(model, paths, args.pool, args.size, args.batch_size, args.workers)
    images, rows = len(encoded.index), {}
    for name, features in encoded.features.items():
        width = features.shape[1]
        rows[name] = {
            'rankme': float(rankme(features.to(device))),
            'images': images,
            'width': width,
        }
        if images < width:
            print(f'{name}: {images} images are fewer than the width {width}, and RankMe is at most {images}.')
    cells = [[name, f'{row["rankme"]:.2f}', str(row['images']), str(row['width'])] for name, row in rows.items()]
    table = markdown_table(['pooling', 'RankMe', 'images', 'width'], cells)
    print(f'\n{table}\n')
    about = {
        'checkpoint': args.checkpoint,
        'weights': args.weights,
        'data': args.data,
        'size': encoded.size,
        'unreadable': len(encoded.unreadable),
    }
    text = f'{args.checkpoint}, {args.weights} weights, on {args.data} at {encoded.size} px\n\n{table}\n'
    folder = Path(args.out_dir)
    write_text_atomically(json.dumps({'about': about, 'poolings': rows}, indent=1) + '\n', folder / 'rankme.json')
    write_text_atomically(text, folder / 'rankme.md')
    print(f'Wrote {folder}/rankme.json and rankme.md.')


if __name__ == '__main__':
    main()
