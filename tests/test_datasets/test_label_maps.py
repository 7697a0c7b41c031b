"""Label maps: as mmsegmentation reads them, and looked at; their crops and sizes."""

import os

import numpy as np
import pytest
from mmseg.datasets import ADE20KDataset
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmmim.datasets import ForgetOriginalSize, LoadLabelMap, RandomResizedCrop, ResizeLabelMap
from mmmim.datasets.fashion_scenes_segmentation import FashionScenesSegmentation
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.images import alarm, bomb_png

LABELS = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
LABELS[0, :3] = 0, 254, 255
PALETTE = Image.fromarray(LABELS).convert('P')
PALETTE.putdata(LABELS.flatten().tolist())


def results(path, **options):
    return {'seg_map_path': str(path), 'reduce_zero_label': False, 'label_map': None, 'seg_fields': [], **options}


@pytest.mark.parametrize('image', [Image.fromarray(LABELS), PALETTE, Image.fromarray(LABELS > 9)])
@pytest.mark.parametrize('options', [{}, {'reduce_zero_label': True}, {'label_map': {0: 3, 3: 255, 9: 0}}])
def test_labels_are_those_of_mmseg(tmp_path, image, options):
    image.save(tmp_path / 'a.png')
    mine = LoadLabelMap()(results(tmp_path / 'a.png', **options))
    theirs = TRANSFORMS.build({'type': 'mmseg.LoadAnnotations'})(results(tmp_path / 'a.png', **options))
    np.testing.assert_array_equal(mine.pop('gt_seg_map'), theirs.pop('gt_seg_map'), strict=True)
    assert mine == theirs
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / 'b.png')
    found = LoadLabelMap()({'seg_map_path': tmp_path / 'b.png'})['gt_seg_map']  # the keys of mmpretrain
    np.testing.assert_array_equal(found, LABELS, strict=True)


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


def test_crops_of_label_maps_are_those_of_the_image():
    """Rows and columns of the crop are read back from an image that holds them, and from labels that do."""
    rows, columns = np.mgrid[:200, :240].astype(np.uint8)
    crop = RandomResizedCrop(scale=(96, 64), crop_ratio_range=(0.2, 0.6), interpolation='bilinear')
    for labels, channel in ((rows, 0), (columns, 1)):
        np.random.seed(0)  # noqa: NPY002
        results = {'img': np.stack([rows, columns, rows], -1), 'gt_seg_map': labels}
        results = crop.transform(results)
        assert results['gt_seg_map'].shape == results['img_shape'] == (96, 64)
        difference = results['gt_seg_map'].astype(int) - results['img'][..., channel]
        assert abs(difference).max() <= 2
    assert 'gt_seg_map' not in crop.transform({'img': np.zeros((50, 50, 3), np.uint8)})


def test_label_maps_are_resized_by_nearest_neighbours_and_images_stay():
    labels = np.array([[0, 7, 255], [3, 3, 9]], np.uint8)
    image = np.zeros((2, 3, 3), np.uint8)
    results = ResizeLabelMap((4, 6)).transform({'img': image, 'gt_seg_map': labels})
    np.testing.assert_array_equal(results['gt_seg_map'], labels.repeat(2, 0).repeat(2, 1))
    assert results['img'] is image
    assert ResizeLabelMap(5).transform({'gt_seg_map': labels})['gt_seg_map'].shape == (5, 5)


def test_the_original_size_is_forgotten():
    results = ForgetOriginalSize().transform({'img': np.zeros((4, 6, 3)), 'ori_shape': (100, 90)})
    assert results['ori_shape'] == (4, 6)


PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmmim.LoadLabelMap'}, {'type': 'mmseg.PackSegInputs'}]


def test_fashion_scenes_is_a_data_set_of_mmsegmentation(fashion_scenes):
    with pytest.raises(InputError, match='train, val, test'):
        FashionScenesSegmentation(data_root=fashion_scenes, split='validation')
    options = {'data_root': str(fashion_scenes), 'split': 'val', 'pipeline': PIPELINE}
    dataset = DATASETS.build({'type': 'mmmim.FashionScenesSegmentation', **options})
    assert len(dataset) == 1000
    assert (dataset.metainfo['classes'][0], dataset.metainfo['classes'][10]) == ('background', 'ankle boot')
    assert len({tuple(colour) for colour in dataset.metainfo['palette']}) == 11
    prefix = {'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'}
    folder = f'{fashion_scenes}/single'
    theirs = ADE20KDataset(data_root=folder, data_prefix=prefix, img_suffix='.png', pipeline=PIPELINE, indices=3)
    for i in range(3):
        sample, file = dataset[i], np.asarray(Image.open(dataset.get_data_info(i)['seg_map_path']))
        assert sample['inputs'].equal(theirs[i]['inputs'])
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.equal(theirs[i]['data_samples'].gt_sem_seg.data)
        # 1, the background, is class 0; 2 + c is class c + 1. Nothing is ignored.
        np.testing.assert_array_equal(labels[0], file.astype(int) - 1)
        assert 1 <= labels.max() <= 10
