#!/usr/bin/env python
"""Pack a folder of images into WebDataset shards, in random order, with an index of how many each one holds.

The files are copied byte for byte under running numbers. Labels are not kept: the shards are for pre-training. OUT
appears when all shards are complete; until then they lie in OUT.part.
"""

import argparse
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmim.cli.arguments import COUNT, SEED
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('images', help='folder of images, flat or nested')
    parser.add_argument('out', help='folder of the shards: new or empty')
    parser.add_argument(
        '--images-per-shard',
        type=COUNT,
        default=5000,
        metavar='N',
        help='(default: %(default)s; at least a shard per data loader worker of every GPU is needed)',
    )
    parser.add_argument('--seed', type=SEED, default=0, help='of the random order (default: %(default)s)')
    return parser.parse_args()


def write_shards(images: str, paths: Sequence[str], folder: Path, size: int) -> list[dict[str, Any]]:
    """Write images to shards of ``size``; what the index says of each.

    Raises:
        InputError: An image cannot be read, such as one that was removed meanwhile, or a shard cannot be written.
    """
    from webdataset import TarWriter

    from mmmim.datasets.transforms.loading import UnreadableImageError, read_file
    from mmmim.utils import InputError

    entries = []
    for start in range(0, len(paths), size):
        name, part = f'{len(entries):06d}.tar', paths[start : start + size]
        try:
            with TarWriter(str(folder / name)) as writer:
                for number, path in enumerate(part, start):
                    suffix = os.path.splitext(path)[1][1:].lower()
                    writer.write({'__key__': f'{number:09d}', suffix: read_file(Path(images, path))})
        except UnreadableImageError as error:
            raise InputError(f'{error}. Repair or remove it, and start again.') from None
        except OSError as error:
            raise InputError(
                f'{folder / name} could not be written: {error.strerror}. Make room, or give another OUT.'
            ) from None
        entries.append({'url': name, 'nsamples': len(part), 'filesize': os.path.getsize(folder / name)})
    return entries


@user_errors()
def main() -> None:
    """Run the command line."""
    args = parse_args()

    from mmmim.datasets.image_folder import IMAGE_EXTENSIONS, list_images
    from mmmim.utils import InputError
    from mmmim.utils.names import printable

    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise InputError('make_shards.py needs the library webdataset: pip install "mmmim[webdataset]"') from None
    if args.images_per_shard < 1:
        raise InputError(f'--images-per-shard {args.images_per_shard}: give 1 or more.')
    if not os.path.isdir(args.images):
        raise InputError(f'There is no folder {printable(args.images)}.')
    out = Path(os.path.abspath(args.out))
    unfinished = out.with_name(f'{out.name}.part')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f'{printable(args.out)} is not an empty folder: give another one, or empty it.')
    if unfinished.exists():
        raise InputError(
            f'{printable(unfinished)} is there, of a run that goes on or was interrupted: remove it first.'
        )
    paths, _ = list_images(args.images, IMAGE_EXTENSIONS)
    if not paths:
        raise InputError(f'There are no images in {printable(args.images)}.')

    random.Random(args.seed).shuffle(paths)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise InputError(f'{printable(unfinished)} cannot be made: {error.strerror}. Give another OUT.') from None
    try:
        entries = write_shards(args.images, paths, unfinished, args.images_per_shard)
        index = {'__kind__': 'wids-shard-index-v1', 'wids_version': 1, 'shardlist': entries}
        (unfinished / 'index.json').write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')
        if out.exists():
            out.rmdir()  # empty
        os.replace(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # made here
        raise
    print(f'Wrote {len(paths)} images to {len(entries)} shard(s) in {printable(args.out)}.')


if __name__ == '__main__':
    main()
