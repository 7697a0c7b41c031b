"""Label maps: as mmsegmentation reads them, and looked at."""

import os

import numpy as np
import pytest
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmmim.datasets import LoadLabelMap
from mmmim.utils import InputError
from tests.images import alarm, bomb_png

LABELS = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
LABELS[0, :3] = 0, 254, 255


def results(path, **options):
    return {'seg_map_path': str(path), 'reduce_zero_label': False, 'label_map': None, 'seg_fields': [], **options}


def palette():
    image = Image.fromarray(LABELS).convert('P')
    image.putdata(LABELS.flatten().tolist())
    return image


@pytest.mark.parametrize('image', [Image.fromarray(LABELS), palette(), Image.fromarray(LABELS > 9)])
@pytest.mark.parametrize('options', [{}, {'reduce_zero_label': True}, {'label_map': {0: 3, 3: 255, 9: 0}}])
def test_labels_are_those_of_mmseg(tmp_path, image, options):
    image.save(tmp_path / 'a.png')
    mine = LoadLabelMap()(results(tmp_path / 'a.png', **options))
    theirs = TRANSFORMS.build({'type': 'mmseg.LoadAnnotations'})(results(tmp_path / 'a.png', **options))
    np.testing.assert_array_equal(mine.pop('gt_seg_map'), theirs.pop('gt_seg_map'), strict=True)
    assert mine == theirs


def test_keys_of_mmpretrain(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(LoadLabelMap()({'seg_map_path': tmp_path / 'a.png'})['gt_seg_map'], LABELS)


@pytest.mark.parametrize(
    ('pixels', 'words'),
    [
        (np.dstack([LABELS] * 3), r'holds colours, \[9, 7, 3\], not labels: give one label per pixel'),
        (np.dstack([LABELS] * 4), 'holds colours'),
        (LABELS.astype(np.uint16) + np.uint16(300), 'labels from 300 to 555, and 8 bits hold 0 to 255: number'),
        (LABELS.astype(np.int32) - 1, 'labels from -1'),
        (LABELS.astype(np.float32), 'holds floating-point numbers'),
    ],
)
def test_what_is_no_map_of_labels(tmp_path, pixels, words):
    Image.fromarray(pixels).save(tmp_path / 'a.tif')
    with pytest.raises(InputError, match=rf'The label map .*a\.tif (has )?{words}'):
        LoadLabelMap()(results(tmp_path / 'a.tif'))


def test_sixteen_bits_of_small_labels(tmp_path):
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(LoadLabelMap()(results(tmp_path / 'a.png'))['gt_seg_map'], LABELS, strict=True)


@pytest.mark.parametrize('kind', ['fifo', 'bomb', 'eps', 'text', 'missing', 'cut'])
def test_files_from_elsewhere(tmp_path, kind):
    path = tmp_path / 'a\n.png'
    if kind == 'fifo':
        os.mkfifo(path)
    elif kind == 'bomb':
        path.write_bytes(bomb_png(1000))
    elif kind == 'eps':
        Image.new('RGB', (8, 8)).save(path, 'EPS')
    elif kind == 'text':
        path.write_text('no image')
    elif kind == 'cut':
        Image.fromarray(LABELS).save(path)
        path.write_bytes(path.read_bytes()[:60])
    with alarm(), pytest.raises(InputError, match='is unreadable: cannot read image') as caught:
        LoadLabelMap(max_pixels=999_999)(results(path))
    assert str(caught.value).isprintable()
