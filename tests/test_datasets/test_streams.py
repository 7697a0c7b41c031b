"""Streams of images from shards: who reads what, in which order, and where a resumed run goes on."""

import json
import pickle
import random
import tarfile
from itertools import islice

import datasets
import numpy as np
import pytest

from mmmim.datasets import HuggingFaceStream, SeededDataset, WebDatasetStream
from mmmim.datasets.image_stream import shuffled
from mmmim.engine import Runner
from mmmim.utils import InputError
from mmmim.utils.options import check_options
from tests.shards import BATCH, PIPELINE, SIZES, batches, flat, hub, loader, png, web, write_parquet, write_tars


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shards')
    return {'web': web(write_tars(folder / 'tars')), 'hub': hub(write_parquet(folder / 'parquet'))}


KINDS = pytest.mark.parametrize('kind', ['web', 'hub'])
SHARD_OF = np.repeat(np.arange(len(SIZES)), SIZES).tolist()


def first_epoch(numbers):
    for length in range(1, len(numbers)):
        head = sorted(numbers[:length])
        own = {SHARD_OF[number] for number in head}
        if len(own) == 2 and head == [number for number, shard in enumerate(SHARD_OF) if shard in own]:
            return head
    raise AssertionError(f'images are lost or come twice: {numbers}')


@KINDS
def test_an_epoch_has_every_image_once(configs, kind):
    readers = []
    for rank in range(2):
        numbers = batches(24, configs[kind], workers=2, rank=rank, ranks=2)
        readers += [flat(numbers[0::2]), flat(numbers[1::2])]  # batches alternate between the workers
    assert sorted(flat(map(first_epoch, readers))) == list(range(27))
    numbers = flat(batches(54, configs[kind]))
    epochs = [numbers[27 * i : 27 * i + 27] for i in range(4)]
    assert all(sorted(epoch) == list(range(27)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert flat(batches(13, {**configs[kind], 'shuffle': False, 'shards_at_once': 1})) == list(range(26))
    assert flat(batches(10, configs[kind], seed=4)) != numbers[:20]


@pytest.mark.parametrize(('kind', 'workers'), [('web', 0), ('web', 2), ('hub', 1)])
def test_skipping_is_exact(configs, kind, workers):
    whole = batches(60, configs[kind], workers=workers, rank=1, ranks=2)
    for done in (7, 41):
        options = dict(workers=workers, rank=1, ranks=2, skip=done * BATCH)
        assert batches(12, configs[kind], **options) == whole[done : done + 12], done
    assert len({tuple(batch) for batch in whole}) > 30


def test_augmentations_and_masks_are_those_of_the_position(configs):
    noise = dict(type='mmmim.RandomResizedCrop', scale=4, crop_ratio_range=(0.2, 1.0))
    config = {**configs['web'], 'pipeline': [PIPELINE[0], noise, PIPELINE[1]]}

    def samples(skip, count):
        found = list(islice(loader(config, workers=2, skip=skip), count))
        return [
            (tuple(image.flatten().tolist()), seed)
            for batch in found
            for image, seed in zip(batch['inputs'], batch['mask_seed'], strict=True)
        ]

    whole = samples(0, 30)
    assert len(set(whole)) == 60
    assert len({seed for _, seed in whole}) == 60
    assert samples(14, 8) == whole[14:30]


def test_passing_over_shards_reads_none(configs, tmp_path, monkeypatch):
    folder = tmp_path / 'tars'
    write_tars(folder)
    entries = [{'url': f'{i:02d}.tar', 'nsamples': size} for i, size in enumerate(SIZES)]
    (folder / 'index.json').write_text(json.dumps({'shardlist': entries}))
    for config, kind in ((web(str(folder)), WebDatasetStream), (configs['hub'], HuggingFaceStream)):
        config = {**config, 'shards_at_once': 2}
        expected, opened = batches(53, config)[50:], []
        read = kind.read_shard
        monkeypatch.setattr(kind, 'read_shard', lambda self, i, read=read, log=opened: log.append(i) or read(self, i))
        assert batches(3, config, skip=100) == expected
        assert 1 <= len(opened) <= 4
        monkeypatch.undo()


def test_an_index_that_is_wrong(tmp_path):
    folder = tmp_path / 'tars'
    write_tars(folder, (3,))
    for text, message in (
        ('{"shardlist": [{"url": "00.tar", "nsamples": 4}]}', r'00\.tar holds 3 images, but its index says 4'),
        ('{}', r'index\.json is no index of shards'),
        ('[' * 100_000, r'index\.json is no index of shards'),
        ('{"shardlist": [{"url": "00.tar", "nsamples": Infinity}]}', r'index\.json is no index of shards'),
    ):
        (folder / 'index.json').write_text(text)
        with pytest.raises(InputError, match=message):
            batches(3, web(str(folder)), skip=2)


def test_shuffle_buffer():
    items, again = (list(shuffled(iter(range(100)), 10, random.Random(0))) for _ in range(2))
    assert sorted(items) == list(range(100))
    assert items == again != list(range(100))
    assert all(item < place + 10 for place, item in enumerate(items))


@pytest.mark.parametrize('writer', [write_tars, write_parquet])
def test_unreadable_images_are_replaced_by_the_next(tmp_path, writer):
    folder = writer(tmp_path / 'shards', (6, 6), broken=(2, 3, 8))
    config = (web if writer is write_tars else hub)(folder, shuffle=False, shards_at_once=1)
    numbers = flat(batches(12, config))
    assert numbers == [0, 1, 4, 4, 4, 5, 6, 7, 9, 9, 10, 11] * 2
    for done in (1, 2, 4):  # in the middle of a replacement too
        assert flat(batches(4, config, skip=done * BATCH)) == numbers[2 * done : 2 * done + 8]
    with pytest.raises(InputError, match=r'1 of the first 3 images.*max_unreadable_share=0 .*cannot read image'):
        batches(12, {**config, 'max_unreadable_share': 0})
    # One per cent of a thousand images are ten; 3 of 12 are unreadable.
    with pytest.raises(InputError, match=r'11 of the first 4. images'):
        batches(60, config)


def test_a_stream_survives_the_way_to_a_spawned_worker(configs):
    stream = pickle.loads(pickle.dumps(loader(configs['web'], rank=1, ranks=2).dataset))
    assert (stream.rank, stream.world_size, stream.seed) == (1, 2, 3)
    numbers = [int(sample['inputs'][0, 0, 0]) for sample in islice(stream, BATCH)]
    assert numbers == batches(1, configs['web'], rank=1, ranks=2)[0]


def test_urls_and_braces(configs):
    def shards(pattern):
        return WebDatasetStream(pattern, PIPELINE).shards

    folder = configs['web']['shards']
    assert len(shards(f'{folder}/{{00..03}}.tar')) == 4
    urls = shards('https://host/{a,b}-{00..02}.tar')
    assert urls[:2] == ['https://host/a-00.tar', 'https://host/a-01.tar']
    assert len(urls) == 6
    assert flat(batches(2, web(f'pipe:cat {folder}/00.tar', shuffle=False))) == [0, 1, 2, 0]


def test_hugging_face_formats(tmp_path, configs):
    def read(count, path, load_options, **options):
        options |= dict(path=path, load_options=load_options)
        return flat(batches(count, dict(type='mmmim.HuggingFaceStream', pipeline=PIPELINE, **options)))

    numbers = read(14, 'webdataset', dict(data_files=configs['web']['shards'] + '/*.tar'), column='png')
    assert sorted(numbers[:27]) == list(range(27))
    (tmp_path / 'folder').mkdir()
    for i in range(3):
        (tmp_path / f'folder/{i}.png').write_bytes(png(i))
    assert read(3, 'imagefolder', dict(data_dir=str(tmp_path / 'folder')), shuffle=False) == [0, 1, 2] * 2
    datasets.Dataset.from_dict({'raw': [png(i) for i in range(3)]}).to_parquet(str(tmp_path / 'raw.parquet'))
    raw = read(3, 'parquet', dict(data_files=str(tmp_path / 'raw.parquet')), column='raw')
    assert sorted(raw[:3]) == [0, 1, 2]


def test_refusals_of_webdataset(tmp_path, configs, monkeypatch):
    (tmp_path / 'text.tar').write_text('no tar file')
    tarfile.open(tmp_path / 'empty.tar', 'w').close()
    folder = configs['web']['shards']
    for options, message in (
        ({'shards': f'{tmp_path}/nowhere/*.tar'}, r'no shards match .*nowhere.*set shards'),
        ({'shards': []}, 'list of shards is empty'),
        ({'shards': [folder, f'{folder}/00.tar']}, r'more than once: .*00\.tar'),
        ({'image_keys': 'jpg'}, r'none of the image_keys jpg; it has json, png\. Set image_keys'),
        ({'shards': f'{tmp_path}/text.tar'}, r'text\.tar cannot be read as a tar file \(.+\): repair'),
        ({'shards': f'{tmp_path}/empty.tar'}, r'no images in shards of .*empty\.tar'),
        ({'max_unreadable_share': 2}, 'max_unreadable_share=2'),
        ({'shuffle_buffer': 0}, 'shuffle_buffer=0.*shuffle=False'),
    ):
        with pytest.raises(InputError, match=message):
            batches(1, {**configs['web'], **options})
    monkeypatch.setattr('mmmim.datasets.webdataset_stream.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[webdataset\]"'):
        WebDatasetStream('x.tar', PIPELINE)


def test_refusals_of_hugging_face(tmp_path, configs, monkeypatch):
    for options, message in (
        ({'column': 'img'}, r"has no column 'img', but image, label: set column"),
        ({'split': 'val'}, "split='val' cannot be opened: .*train"),
        ({'path': str(tmp_path / 'nowhere')}, r'nowhere .*cannot be opened.*Check path'),
        ({'column': 'label'}, 'column label .*holds int, not images'),
    ):
        with pytest.raises(InputError, match=message):
            batches(1, {**configs['hub'], **options})
    monkeypatch.setattr('mmmim.datasets.huggingface_stream.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[huggingface\]"'):
        HuggingFaceStream(configs['hub']['path'], PIPELINE)


@KINDS
def test_wrong_settings_around_a_stream(configs, kind):
    config = configs[kind]
    with pytest.raises(InputError, match=r'8 shard\(s\), fewer than its 10 readers.*num_workers to at most 1'):
        loader(config, workers=2, ranks=5)
    with pytest.raises(InputError, match='sampler to None'):
        Runner.build_dataloader(dict(dataset=config, sampler=dict(type='mmmim.PositionSampler'), batch_size=2))
    with pytest.raises(InputError, match='seeds its samples by itself'):
        SeededDataset(config)
    stream = WebDatasetStream if kind == 'web' else HuggingFaceStream
    options = {key: value for key, value in config.items() if key != 'type'}
    check_options(stream, options, 'train_dataloader.dataset')  # what it gives its base is no missing option
    with pytest.raises(InputError, match='needs pipeline'):
        check_options(stream, {k: v for k, v in options.items() if k != 'pipeline'}, 'train_dataloader.dataset')
