#!/usr/bin/env python
"""Make ImageNet-100 of ImageNet-1k: links to the folders of the 100 classes that imagenet100.txt beside it lists."""

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


@user_errors()
def main() -> None:
    """Run the command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        '--imagenet', default='data/imagenet', metavar='DIR', help='with train/ and val/ (default: %(default)s)'
    )
    parser.add_argument(
        '--out', default='data/imagenet100', metavar='DIR', help='folder that is written (default: %(default)s)'
    )
    args = parser.parse_args()

    from pathlib import Path

    from mmmim.utils import InputError

    classes = Path(__file__).with_suffix('.txt').read_text().split()
    source, out = Path(args.imagenet).resolve(), Path(args.out)
    missing = [
        f'{split}/{name}' for split in ('train', 'val') for name in classes if not (source / split / name).is_dir()
    ]
    if missing:
        raise InputError(
            f'{source} lacks {len(missing)} of the 200 class folders, {missing[0]} first: --imagenet is the folder '
            f'with train/ and val/ in folders per class, see docs/en/dataset_prepare.md'
        )
    for split in ('train', 'val'):
        try:
            (out / split).mkdir(parents=True, exist_ok=True)
            for name in classes:
                link = out / split / name
                if link.resolve() != source / split / name:
                    link.symlink_to(source / split / name)
        except OSError as error:
            raise InputError(f'cannot link into {out / split} ({error}): give another folder with --out') from None
        number = sum(1 for name in classes for _ in (source / split / name).iterdir())
        print(f'{out / split}: {len(classes)} classes, {number} images')


if __name__ == '__main__':
    main()
