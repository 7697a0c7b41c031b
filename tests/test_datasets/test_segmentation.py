import numpy as np
import pytest
from mmseg.datasets import ADE20KDataset
from PIL import Image

from mmmim.datasets import ForgetOriginalSize, RandomResizedCrop, ResizeLabelMap
from mmmim.datasets.digit_scenes_segmentation import DigitScenesSegmentation
from mmmim.registry import DATASETS
from mmmim.utils import InputError

PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmmim.LoadLabelMap'}, {'type': 'mmseg.PackSegInputs'}]


@pytest.mark.parametrize(
    ('subset', 'split', 'number', 'side'), [('single', 'val', 1000, 32), ('multi', 'test', 1000, 64)]
)
def test_digit_scenes_is_a_data_set_of_mmsegmentation(subset, split, number, side, digit_scenes):
    options = {'data_root': str(digit_scenes), 'subset': subset, 'split': split, 'pipeline': PIPELINE}
    dataset = DATASETS.build({'type': 'mmmim.DigitScenesSegmentation', **options})
    assert len(dataset) == number
    assert (dataset.metainfo['classes'][0], dataset.metainfo['classes'][10]) == ('background', 'digit 9')
    assert len({tuple(colour) for colour in dataset.metainfo['palette']}) == 11
    sample = dataset[3]
    assert sample['inputs'].shape == (3, side, side)
    labels = sample['data_samples'].gt_sem_seg.data[0].numpy()
    file = np.asarray(Image.open(dataset.get_data_info(3)['seg_map_path']))
    # 1, the background, is class 0; 2 + digit is class digit + 1. Nothing is ignored.
    np.testing.assert_array_equal(labels, file.astype(int) - 1)
    assert labels.min() == 0
    assert 1 <= labels.max() <= 10


def test_digit_scenes_has_the_labels_that_ade20ks_reader_finds(digit_scenes):
    folder = f'{digit_scenes}/single'
    prefix = {'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'}
    theirs = ADE20KDataset(data_root=folder, data_prefix=prefix, img_suffix='.png', pipeline=PIPELINE, indices=3)
    own = DigitScenesSegmentation(data_root=digit_scenes, split='val', pipeline=PIPELINE, indices=3)
    for i in range(3):
        assert (own[i]['data_samples'].gt_sem_seg.data == theirs[i]['data_samples'].gt_sem_seg.data).all()


def test_another_label_to_ignore_and_unknown_splits(digit_scenes):
    assert DigitScenesSegmentation(data_root=digit_scenes, ignore_index=254, lazy_init=True).ignore_index == 254
    with pytest.raises(InputError, match='train, val, test'):
        DigitScenesSegmentation(data_root=digit_scenes, split='validation')
    with pytest.raises(InputError, match='single'):
        DigitScenesSegmentation(data_root=digit_scenes, subset='double')


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
