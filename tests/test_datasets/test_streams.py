"""Streams of images from shards: who reads what, in which order, and where a resumed run goes on."""

import json
import pickle
import random
import tarfile
from itertools import islice

import datasets
import numpy as np
import pytest
import torch

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
    """The images up to where two whole shards have been read."""
    for length in range(1, len(numbers)):
        head = sorted(numbers[:length])
        own = {SHARD_OF[number] for number in head}
        if len(own) == 2 and head == [number for number, shard in enumerate(SHARD_OF) if shard in own]:
            return head
    raise AssertionError(f'images are lost or come twice: {numbers}')


@KINDS
def test_an_epoch_has_every_image_once(configs, kind):
    """2 processes x 2 workers: eight shards of different sizes, two for each reader."""
    readers = []
    for rank in range(2):
        numbers = batches(24, configs[kind], workers=2, rank=rank, ranks=2)
        readers += [flat(numbers[0::2]), flat(numbers[1::2])]  # batches alternate between the workers
    assert sorted(flat(map(first_epoch, readers))) == list(range(27))


@KINDS
def test_epochs_of_one_reader(configs, kind):
    numbers = flat(batches(54, configs[kind]))
    epochs = [numbers[27 * i : 27 * i + 27] for i in range(4)]
    assert all(sorted(epoch) == list(range(27)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert flat(batches(13, {**configs[kind], 'shuffle': False, 'shards_at_once': 1})) == list(range(26))


def test_seeds_of_the_run(configs):
    assert batches(10, configs['web'], seed=4) != batches(10, configs['web'], seed=3) == batches(10, configs['web'])


@KINDS
@pytest.mark.parametrize('workers', [0, 1, 2])
def test_skipping_is_exact(configs, kind, workers):
    whole = batches(60, configs[kind], workers=workers, rank=1, ranks=2)
    for done in (1, 2, 7, 41):
        options = dict(workers=workers, rank=1, ranks=2, skip=done * BATCH)
        assert batches(12, configs[kind], **options) == whole[done : done + 12], done
    assert len({tuple(batch) for batch in whole}) > 30


@pytest.mark.parametrize('workers', [0, 2])
def test_augmentations_and_masks_are_those_of_the_position(configs, workers):
    noise = dict(type='mmmim.RandomResizedCrop', scale=4, crop_ratio_range=(0.2, 1.0))
    config = {**configs['web'], 'pipeline': [PIPELINE[0], noise, PIPELINE[1]]}

    def samples(skip, count):
        found = list(islice(loader(config, workers=workers, skip=skip), count))
        return [
            (tuple(image.flatten().tolist()), seed)
            for batch in found
            for image, seed in zip(batch['inputs'], batch['mask_seed'], strict=True)
        ]

    whole = samples(0, 30)
    assert len(set(whole)) == 60
    assert len({seed for _, seed in whole}) == 60
    assert samples(14, 8) == whole[14:30]


def test_generators_of_the_main_process_are_left_alone(configs):
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    next(iter(loader(configs['web']).dataset))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.get_rng_state().equal(states[2])


def test_passing_over_shards_reads_none(configs, tmp_path, monkeypatch):
    """With an index, or the footers of Parquet files, a resumed stream opens the shards that it goes on with only."""
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
    index = folder / 'index.json'
    index.write_text(json.dumps({'shardlist': [{'url': '00.tar', 'nsamples': 4}]}))
    with pytest.raises(InputError, match=r'00\.tar holds 3 images, but its index says 4'):
        batches(3, web(str(folder)), skip=2)
    for damage in ('{}', '[' * 100_000, '{"shardlist": [{"url": "00.tar", "nsamples": Infinity}]}'):
        index.write_text(damage)
        with pytest.raises(InputError, match=r'index\.json is no index of shards'):
            batches(1, web(str(folder)), skip=2)


def test_shuffle_buffer():
    items = list(shuffled(iter(range(100)), 10, random.Random(0)))
    assert sorted(items) == list(range(100))
    assert items != list(range(100))
    assert all(item < place + 10 for place, item in enumerate(items))
    assert items == list(shuffled(iter(range(100)), 10, random.Random(0)))
    assert list(shuffled(iter(range(5)), 10, random.Random(1))) != list(range(5))


@pytest.mark.parametrize('writer', [write_tars, write_parquet])
def test_unreadable_images_are_replaced_by_the_next(tmp_path, writer):
    config = (web if writer is write_tars else hub)(
        writer(tmp_path / 'shards', (6, 6), broken=(2, 3, 8)), shuffle=False
    )
    numbers = flat(batches(12, {**config, 'shards_at_once': 1}))
    assert numbers == [0, 1, 4, 4, 4, 5, 6, 7, 9, 9, 10, 11] * 2
    for done in (1, 2, 4):  # in the middle of a replacement too
        assert flat(batches(4, {**config, 'shards_at_once': 1}, skip=done * BATCH)) == numbers[2 * done : 2 * done + 8]
    with pytest.raises(InputError, match=r'1 of the first 3 images.*max_unreadable_share=0 .*cannot read image'):
        batches(12, {**config, 'shards_at_once': 1, 'max_unreadable_share': 0})
    # One per cent of a thousand images are ten; 3 of 12 are unreadable.
    with pytest.raises(InputError, match=r'11 of the first 4. images'):
        batches(60, config)


def test_a_stream_survives_the_way_to_a_spawned_worker(configs):
    stream = pickle.loads(pickle.dumps(loader(configs['web'], rank=1, ranks=2).dataset))
    assert (stream.rank, stream.world_size, stream.seed) == (1, 2, 3)
    numbers = [int(sample['inputs'][0, 0, 0]) for sample in islice(stream, BATCH)]
    assert numbers == batches(1, configs['web'], rank=1, ranks=2)[0]


@KINDS
def test_fewer_shards_than_readers(configs, kind):
    with pytest.raises(InputError, match=r'8 shard\(s\), fewer than its 10 readers.*num_workers to at most 1'):
        loader(configs[kind], workers=2, ranks=5)


def test_errors_of_webdataset(tmp_path, configs, monkeypatch):
    with pytest.raises(InputError, match=r'no shards match .*nowhere.*set shards'):
        web_stream(tmp_path / 'nowhere/*.tar')
    with pytest.raises(InputError, match='list of shards is empty'):
        WebDatasetStream([], PIPELINE)
    with pytest.raises(InputError, match=r'more than once: .*00\.tar'):
        WebDatasetStream([configs['web']['shards'], configs['web']['shards'] + '/00.tar'], PIPELINE)
    with pytest.raises(InputError, match=r'none of the image_keys jpg; it has json, png\. Set image_keys'):
        batches(1, {**configs['web'], 'image_keys': 'jpg'})
    (tmp_path / 'text.tar').write_text('no tar file')
    with pytest.raises(InputError, match=r'text\.tar cannot be read as a tar file \(.+\): repair'):
        batches(1, web(str(tmp_path / 'text.tar')))
    tarfile.open(tmp_path / 'empty.tar', 'w').close()
    with pytest.raises(InputError, match=r'no images in shards of .*empty\.tar'):
        batches(1, web(str(tmp_path / 'empty.tar')))
    monkeypatch.setattr('mmmim.datasets.webdataset_stream.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[webdataset\]"'):
        web_stream('x.tar')


def web_stream(shards):
    return WebDatasetStream(str(shards), PIPELINE)


def test_urls_and_braces(configs):
    folder = configs['web']['shards']
    assert len(web_stream(f'{folder}/{{00..03}}.tar').shards) == 4
    urls = web_stream('https://host/{a,b}-{00..02}.tar').shards
    assert urls[:2] == ['https://host/a-00.tar', 'https://host/a-01.tar']
    assert len(urls) == 6
    piped = web(f'pipe:cat {folder}/00.tar', shuffle=False)
    assert flat(batches(2, piped)) == [0, 1, 2, 0]


def test_errors_of_hugging_face(tmp_path, configs, monkeypatch):
    folder = configs['hub']['path']
    with pytest.raises(InputError, match=r"has no column 'img', but image, label: set column"):
        HuggingFaceStream(folder, PIPELINE, column='img')
    with pytest.raises(InputError, match=r"split='val' cannot be opened: .*train"):
        HuggingFaceStream(folder, PIPELINE, split='val')
    with pytest.raises(InputError, match=r'nowhere .*cannot be opened.*Check path'):
        HuggingFaceStream(str(tmp_path / 'nowhere'), PIPELINE)
    with pytest.raises(InputError, match=r'column label .*holds int, not images'):
        batches(1, {**configs['hub'], 'column': 'label'})
    monkeypatch.setattr('mmmim.datasets.huggingface_stream.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[huggingface\]"'):
        HuggingFaceStream(folder, PIPELINE)


def test_hugging_face_formats(tmp_path, configs):
    """Images beside the data set's files are read when their turn comes; encoded bytes need no image type."""
    options = dict(path='webdataset', load_options=dict(data_files=configs['web']['shards'] + '/*.tar'), column='png')
    numbers = flat(batches(14, dict(type='mmmim.HuggingFaceStream', pipeline=PIPELINE, **options)))
    assert sorted(numbers[:27]) == list(range(27))
    (tmp_path / 'folder').mkdir()
    for i in range(3):
        (tmp_path / f'folder/{i}.png').write_bytes(png(i))
    options = dict(path='imagefolder', load_options=dict(data_dir=str(tmp_path / 'folder')), shuffle=False)
    assert flat(batches(3, dict(type='mmmim.HuggingFaceStream', pipeline=PIPELINE, **options))) == [0, 1, 2, 0, 1, 2]
    datasets.Dataset.from_dict({'raw': [png(i) for i in range(3)]}).to_parquet(str(tmp_path / 'raw.parquet'))
    options = dict(path='parquet', load_options=dict(data_files=str(tmp_path / 'raw.parquet')), column='raw')
    assert sorted(flat(batches(3, dict(type='mmmim.HuggingFaceStream', pipeline=PIPELINE, **options)))[:3]) == [0, 1, 2]


def test_wrong_settings(configs):
    with pytest.raises(InputError, match=r'sampler to None'):
        Runner.build_dataloader(dict(dataset=configs['web'], sampler=dict(type='mmmim.PositionSampler'), batch_size=2))
    with pytest.raises(InputError, match=r'seeds its samples by itself'):
        SeededDataset(configs['web'])
    with pytest.raises(InputError, match=r'max_unreadable_share=2'):
        loader({**configs['web'], 'max_unreadable_share': 2})
    with pytest.raises(InputError, match=r'shuffle_buffer=0.*shuffle=False'):
        loader({**configs['web'], 'shuffle_buffer': 0})


def test_what_a_stream_gives_its_base_is_no_missing_option(configs):
    for kind, config in ((WebDatasetStream, configs['web']), (HuggingFaceStream, configs['hub'])):
        options = {key: value for key, value in config.items() if key != 'type'}
        check_options(kind, options, 'train_dataloader.dataset')
        with pytest.raises(InputError, match='needs pipeline'):
            check_options(kind, {k: v for k, v in options.items() if k != 'pipeline'}, 'train_dataloader.dataset')
