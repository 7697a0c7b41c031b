#!/usr/bin/env python
"""Write DigitScenes, the data set that needs no download, and say what lies where."""

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


@user_errors()
def main() -> None:
    """Run the command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        '--out', default='data/digit_scenes', metavar='DIR', help='folder of the data (default: %(default)s)'
    )
    out = parser.parse_args().out

    from mmmim.datasets.digit_scenes import write_digit_scenes
    from mmmim.datasets.digit_scenes_generator import NUM_IMAGES
    from mmmim.datasets.scenes_generator import IMAGE_SIZE, SUBSETS

    for subset in SUBSETS:
        folder = write_digit_scenes(out, subset)
        counts = ', '.join(f'{count} {split}' for split, count in NUM_IMAGES[subset].items())
        print(f'{folder}: {IMAGE_SIZE[subset]} px; {counts} images')
        print('  {train,val,test}/CLASS/*.png: classification')
        print(
            '  {images,annotations}/{training,validation,test}/*.png: segmentation (0 unused, 1 background, 2 + digit)'
        )


if __name__ == '__main__':
    main()
