#!/usr/bin/env python
"""Write FashionScenes, the data set that needs no download, and say what lies where."""

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


@user_errors()
def main() -> None:
    """Run the command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        '--out', default='data/fashion_scenes', metavar='DIR', help='folder of the data (default: %(default)s)'
    )
    parser.add_argument(
        '--source',
        metavar='DIR',
        help='folder of the four files of the whole of Fashion-MNIST (default: the part that comes with mmmim)',
    )
    args = parser.parse_args()

    from mmmim.datasets.fashion_scenes import number_of_images, write_fashion_scenes
    from mmmim.datasets.scenes_generator import IMAGE_SIZE, SUBSETS

    for subset in SUBSETS:
        folder = write_fashion_scenes(args.out, subset, args.source)
        counts = ', '.join(f'{count} {split}' for split, count in number_of_images(folder).items())
        print(f'{folder}: {IMAGE_SIZE[subset]} px; {counts} images')
        print('  {train,val,test}/CLASS/*.png: classification')
        print(
            '  {images,annotations}/{training,validation,test}/*.png: segmentation (0 unused, 1 background, 2 + class)'
        )


if __name__ == '__main__':
    main()
