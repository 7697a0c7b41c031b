"""Small shards, and what comes out of them."""

import io
import tarfile
from itertools import islice

import datasets
import numpy as np
import pytest
from PIL import Image

from mmmim.engine import Runner

PIPELINE = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
SIZES = (3, 5, 2, 4, 3, 3, 4, 3)  # images of the shards; 27 in all
BATCH = 2


def png(number, size=8):
    """An image whose first pixel is its number; the others are noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels[0, 0] = number
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def write_tars(folder, sizes=SIZES, key='png', size=8, broken=()):
    folder.mkdir()
    number = 0
    for shard, length in enumerate(sizes):
        with tarfile.open(folder / f'{shard:02d}.tar', 'w') as tar:
            for _ in range(length):
                add(tar, f'{number:04d}.json', b'{}')
                add(tar, f'{number:04d}.{key}', b'no image' if number in broken else png(number, size))
                number += 1
    return str(folder)


def write_parquet(folder, sizes=SIZES, column='image', size=8, broken=()):
    folder.mkdir()
    number = 0
    for shard, length in enumerate(sizes):
        numbers = range(number, number + length)
        rows = [{'bytes': b'no image' if i in broken else png(i, size), 'path': f'{i}.png'} for i in numbers]
        table = datasets.Dataset.from_dict({column: rows, 'label': list(numbers)})
        table.cast_column(column, datasets.Image()).to_parquet(str(folder / f'train-{shard:02d}.parquet'))
        number += length
    return str(folder)


def web(folder, **options):
    return dict(type='mmmim.WebDatasetStream', shards=folder, pipeline=PIPELINE, **options)


def hub(folder, **options):
    return dict(type='mmmim.HuggingFaceStream', path=folder, pipeline=PIPELINE, **options)


def loader(config, workers=0, rank=0, ranks=1, skip=0, seed=3):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmmim.datasets.image_stream.get_dist_info', lambda: (rank, ranks))
        built = Runner.build_dataloader(
            dict(
                dataset=config,
                batch_size=BATCH,
                num_workers=workers,
                persistent_workers=True,
                drop_last=True,
                collate_fn=dict(type='pseudo_collate'),
            ),
            seed=seed,
        )
    built.sampler.skip(skip)  # what mmengine's loop does when it resumes
    return built


def batches(count, config, **options):
    """Numbers of the images, per batch."""
    return [[int(image[0, 0, 0]) for image in batch['inputs']] for batch in islice(loader(config, **options), count)]


def flat(lists):
    return [item for items in lists for item in items]
