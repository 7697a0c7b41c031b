"""Videos in DAVIS's layout: what is found, and what is refused in one sentence."""

import os

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import DAVIS2017
from mmmim.datasets.davis import ANNOTATIONS, FRAMES, LISTS, palette, read_annotation, save_indices
from mmmim.utils import InputError
from tests.videos import moving_boxes, write_list, write_video


@pytest.fixture
def root(tmp_path):
    write_video(tmp_path, 'dog', moving_boxes(3))
    write_video(tmp_path, 'bike-packing', moving_boxes(4, (48, 32)))
    write_list(tmp_path, 'dog', ' bike-packing ', '')
    return tmp_path


def test_sequences_are_those_of_the_list_in_its_order(root):
    write_video(root, 'not-listed', moving_boxes(3))
    (root / FRAMES / 'dog' / '.hidden.jpg').touch()
    (root / FRAMES / 'dog' / 'Thumbs.db').touch()
    dataset = DAVIS2017(str(root))
    assert [each.name for each in dataset] == ['dog', 'bike-packing']
    assert [len(each.frames) for each in dataset] == [3, 4]
    assert dataset[0].stems == ('00000', '00001', '00002')
    assert dataset[0].frames[1] == str(root / FRAMES / 'dog/00001.jpg')
    assert dataset[0].annotations[2] == str(root / ANNOTATIONS / 'dog/00002.png')
    assert len(DAVIS2017(str(root), indices=1)) == 1
    write_list(root, 'not-listed', split='train')
    assert DAVIS2017(str(root), split='train')[0].name == 'not-listed'


def test_indices_are_read_and_never_colours(tmp_path):
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save_indices(indices, tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        assert image.mode == 'P'
        assert np.asarray(image.convert('RGB')).reshape(-1, 3).tolist() == [list(each) for each in palette()]
        image.convert('RGB').save(tmp_path / 'colours.png')
    assert (read_annotation(str(tmp_path / 'a.png')) == indices).all()
    with pytest.raises(InputError, match='holds colours'):
        read_annotation(str(tmp_path / 'colours.png'))


def test_colours_are_those_of_pascal_voc():
    assert palette()[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert palette()[255] == (224, 224, 192)
    assert len(set(palette())) == 256


@pytest.mark.parametrize(
    'name', ['../dog', '/etc', 'dog/../../x', '..', '.', '.hidden', 'a\\b', 'C:dog', 'dog\x1b[2J', 'a\0b']
)
def test_lists_that_leave_the_folder(root, name):
    write_list(root, 'dog', name)
    with pytest.raises(InputError, match='is no name of a folder') as error:
        DAVIS2017(str(root))
    assert str(error.value).isprintable()


def rename(path, name):
    os.rename(path, path.with_name(name))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda root: write_list(root), 'names no sequences'),
        (lambda root: write_list(root, 'dog', 'dog'), "names 'dog' twice"),
        (lambda root: write_list(root, 'cat'), 'JPEGImages/480p/cat is missing: .* must hold JPEGImages/480p, Annot'),
        (lambda root: (root / LISTS / 'val.txt').unlink(), 'val.txt is missing: .*#davis-2017 says where DAVIS-2017'),
        (lambda root: (root / LISTS / 'val.txt').write_bytes(b'\xff\xfe'), 'is no list of sequences'),
        (lambda root: (root / ANNOTATIONS / 'dog/00001.png').unlink(), 'frame 00001 has no annotation .1 are alone'),
        (lambda root: (root / FRAMES / 'dog/00001.jpg').unlink(), 'annotation 00001 has no frame'),
        (lambda root: rename(root / ANNOTATIONS / 'dog', 'gone'), 'Annotations/480p/dog is missing'),
        (lambda root: (root / FRAMES / 'dog/00001.png').touch(), 'two files of frame 00001'),
    ],
)
def test_what_is_refused(root, damage, message):
    damage(root)
    with pytest.raises(InputError, match=message):
        DAVIS2017(str(root))


def test_a_pipe_in_the_place_of_the_list(root):
    path = root / LISTS / 'val.txt'
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match='not a regular file but a named pipe'):
        DAVIS2017(str(root))


def test_too_few_frames(root):
    write_video(root, 'short', moving_boxes(2))
    write_list(root, 'short')
    with pytest.raises(InputError, match='has 2 frames and needs 3'):
        DAVIS2017(str(root))


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r'nowhere is missing: .*Nothing is downloaded'):
        DAVIS2017(str(tmp_path / 'nowhere'))
