"""Shards appear when they are complete, or not at all."""

import json
import os
import shutil
import signal
import time

import pytest

from mmmim.datasets import WebDatasetStream
from tests.images import alarm
from tests.processes import kill, start
from tests.shards import PIPELINE, png


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(9):
        (folder / f'{i}.png').write_bytes(png(i))
    return folder


@pytest.fixture
def make(tool):
    def make(*args, code=0):
        with alarm(20):
            said = tool('dataset_converters/make_shards', *args, code=code)
        assert not code or said.count('\n') == 1
        return said

    return make


def test_the_index_tells_images_and_bytes(tmp_path, images, make):
    make(images, tmp_path / 'shards', '--images-per-shard', 4)
    index = json.loads((tmp_path / 'shards/index.json').read_text())['shardlist']
    assert [entry['nsamples'] for entry in index] == [4, 4, 1]
    assert [entry['filesize'] for entry in index] == [(tmp_path / 'shards' / e['url']).stat().st_size for e in index]
    stream = WebDatasetStream(str(tmp_path / 'shards'), PIPELINE)
    assert [len(list(stream.read_shard(i))) for i in range(3)] == [4, 4, 1]
    assert sorted(os.listdir(tmp_path)) == ['images', 'shards']


def vanish(path, monkeypatch):
    """The file is removed after the folder was listed."""
    from mmmim.datasets import image_folder

    whole = image_folder.list_images

    def listed(*args):
        names = whole(*args)
        path.unlink()
        return names

    monkeypatch.setattr(image_folder, 'list_images', listed)


def pipe(path, monkeypatch):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(('change', 'words'), [(vanish, '3.png: no such file'), (pipe, '3.png: not a regular file')])
def test_a_file_that_cannot_be_read_leaves_nothing_behind(tmp_path, images, monkeypatch, make, change, words):
    change(images / '3.png', monkeypatch)
    message = make(images, tmp_path / 'shards', '--images-per-shard', 2, code=2)
    assert words in message
    assert 'Repair or remove it' in message
    assert os.listdir(tmp_path) == ['images']


def test_a_disk_that_is_full(tmp_path, images, monkeypatch, make):
    def full(self, sample):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('webdataset.TarWriter.write', full)
    message = make(images, tmp_path / 'shards', code=2)
    assert 'could not be written: No space left on device. Make room' in message
    assert os.listdir(tmp_path) == ['images']


def test_a_killed_run_leaves_no_folder_that_looks_whole(tmp_path, images, monkeypatch, make):
    """Killed for real while the second shard is being written."""
    import webdataset

    write, there = webdataset.TarWriter.write, tmp_path.parent / f'{tmp_path.name}.now'

    def slow(self, sample):
        write(self, sample)
        if sample['__key__'] == '000000005':
            there.touch()
            time.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr(webdataset.TarWriter, 'write', slow)
        process = start(lambda: make(images, tmp_path / 'shards', '--images-per-shard', 4), f'{there}.txt')
    with alarm(60):
        while not there.exists():
            time.sleep(0.01)
    assert kill(process) == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ['images', 'shards.part']
    message = make(images, tmp_path / 'shards', code=2)
    assert 'shards.part is there, of a run that goes on or was interrupted: remove it first' in message
    shutil.rmtree(tmp_path / 'shards.part')
    (tmp_path / 'shards').mkdir()  # an empty folder is taken
    make(images, tmp_path / 'shards')
    assert sorted(os.listdir(tmp_path / 'shards')) == ['000000.tar', 'index.json']


def test_names_of_images_do_not_matter(tmp_path, images, make):
    os.rename(images / '3.png', os.fsencode(images) + b'/\xff\n\x1b[31m.PNG')
    make(images, tmp_path / 'shards')
    stream = WebDatasetStream(str(tmp_path / 'shards'), PIPELINE)
    assert len(list(stream.read_shard(0))) == 9
