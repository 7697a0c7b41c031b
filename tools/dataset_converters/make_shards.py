#!/usr/bin/env python
"""Pack a folder of images into WebDataset shards, in random order, with an index of how many each one holds.

The files are copied byte for byte under running numbers. Labels are not kept: the shards are for pre-training.
"""

import argparse
import json
import os
import random
from pathlib import Path

from mmmim.utils.cli import user_errors


@user_errors()
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument('images', help='folder of images, flat or nested')
    parser.add_argument('out', help='folder of the shards: new or empty')
    parser.add_argument(
        '--images-per-shard',
        type=int,
        default=5000,
        metavar='N',
        help='(default: %(default)s; at least a shard per data loader worker of every GPU is needed)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the random order (default: %(default)s)')
    args = parser.parse_args()

    from mmmim.datasets.image_folder import IMAGE_EXTENSIONS, list_images
    from mmmim.utils import InputError

    try:
        from webdataset import TarWriter
    except ImportError:
        raise InputError('make_shards.py needs the library webdataset: pip install "mmmim[webdataset]"') from None
    if args.images_per_shard < 1:
        raise InputError(f'--images-per-shard {args.images_per_shard}: give 1 or more.')
    if not os.path.isdir(args.images):
        raise InputError(f'There is no folder {args.images}.')
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f'{out} is not an empty folder: give another one, or empty it.')
    paths, _ = list_images(args.images, IMAGE_EXTENSIONS)
    if not paths:
        raise InputError(f'There are no images in {args.images}.')

    random.Random(args.seed).shuffle(paths)
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    for start in range(0, len(paths), args.images_per_shard):
        name, part = f'{len(entries):06d}.tar', paths[start : start + args.images_per_shard]
        # Under another name until it is complete, so that nobody takes half a shard for a whole one.
        with TarWriter(str(out / f'{name}.part')) as writer:
            for number, path in enumerate(part, start):
                suffix = os.path.splitext(path)[1][1:].lower()
                writer.write({'__key__': f'{number:09d}', suffix: Path(args.images, path).read_bytes()})
        os.replace(out / f'{name}.part', out / name)
        entries.append({'url': name, 'nsamples': len(part)})
    index = {'__kind__': 'wids-shard-index-v1', 'wids_version': 1, 'shardlist': entries}
    (out / 'index.json').write_text(json.dumps(index, indent=2) + '\n')
    print(f'Wrote {len(paths)} images to {len(entries)} shard(s) in {out}.')


if __name__ == '__main__':
    main()
