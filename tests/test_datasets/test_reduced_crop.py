"""Crops of large JPEG files that are decoded at a part of their size."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from mmmim.datasets import LoadImage, LoadReducedCrop, RandomResizedCrop
from mmmim.datasets.transforms import UnreadableImageError, decode_jpeg
from mmmim.utils import InputError

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0])  # 640 x 427
AREAS = (0.3, 1.0)


def encoded(image=PHOTOGRAPH, kind='JPEG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def both(data, scale=60, seed=0, **options):
    """The crop of the two transforms, that of the one, and the states of numpy's generator behind them."""
    loads = (
        [LoadImage(), RandomResizedCrop(scale, crop_ratio_range=AREAS)],
        [LoadReducedCrop(scale, crop_ratio_range=AREAS, **options)],
    )
    results = []
    for transforms in loads:
        np.random.seed(seed)  # noqa: NPY002
        sample = {'img_path': 'a.jpg', 'img_bytes': data}
        for transform in transforms:
            sample = transform(sample)
        results.append({**sample, 'next': np.random.random()})  # noqa: NPY002
    return results


@pytest.mark.parametrize('factor', [2, 4, 8])
@pytest.mark.parametrize('options', [{}, {'subsampling': 0}, {'progressive': True}], ids=str)
def test_reduced_pixels_are_those_of_pillow(factor, options):
    data = encoded(PHOTOGRAPH.crop((0, 0, 333, 221)), quality=90, **options)
    with Image.open(io.BytesIO(data)) as image:
        image.draft('RGB', (333 // factor, 221 // factor))
        np.testing.assert_array_equal(decode_jpeg(data, factor=factor)[..., ::-1], np.asarray(image))


def test_the_same_crops_of_about_the_same_pixels():
    data = encoded(quality=95)
    differences = []
    for seed in range(12):
        plain, reduced = both(data, seed=seed)
        assert plain.keys() == reduced.keys()
        assert plain['next'] == reduced['next']
        assert plain['ori_shape'] == reduced['ori_shape'] == (427, 640)
        assert plain['img_shape'] == reduced['img_shape'] == (60, 60)
        differences.append(np.abs(plain['img'].astype(int) - reduced['img']).mean())
    other = both(data, seed=99)[0]['img'].astype(int)  # what another crop would differ by
    assert 0 < max(differences) < 0.4 * np.abs(plain['img'] - other).mean()


@pytest.mark.parametrize(
    'data',
    [
        encoded(PHOTOGRAPH.crop((0, 0, 119, 119))),
        encoded(kind='PNG'),
        encoded(PHOTOGRAPH.convert('CMYK')),
        encoded(exif=Image.Exif()),
        encoded() + b'text',
    ],
    ids=['small', 'PNG', 'CMYK', 'EXIF', 'more at the end'],
)
def test_the_rest_is_read_as_ever(data):
    if b'Exif' in data:  # to be turned
        tags = Image.Exif()
        tags[0x0112] = 6
        data = encoded(exif=tags)
    plain, reduced = both(data)
    np.testing.assert_array_equal(plain['img'], reduced['img'])
    assert plain['next'] == reduced['next']


def test_a_damaged_file_is_unreadable_and_draws_nothing():
    transform = LoadReducedCrop(60, crop_ratio_range=AREAS)
    np.random.seed(0)  # noqa: NPY002
    with pytest.raises(UnreadableImageError, match=r'a\.jpg.*truncated'):
        transform({'img_path': 'a.jpg', 'img_bytes': encoded()[:-500]})
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert after == np.random.random()  # noqa: NPY002
    with pytest.raises(UnreadableImageError, match='more than the limit of 1000'):
        LoadReducedCrop(60, load={'max_pixels': 1000})({'img_path': 'a.jpg', 'img_bytes': encoded()})
    with pytest.raises(InputError, match="no decoder 'cv2'"):
        LoadReducedCrop(60, load={'decoder': 'cv2'})


def test_files_are_read_and_label_maps_are_cut_alike(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(encoded())
    rows = np.arange(427, dtype=np.uint8)[:, None].repeat(640, 1)
    results = []
    for transforms in ([LoadImage(), RandomResizedCrop(60)], [LoadReducedCrop(60)]):
        np.random.seed(5)  # noqa: NPY002
        sample = {'img_path': str(tmp_path / 'a.jpg'), 'gt_seg_map': rows}
        for transform in transforms:
            sample = transform(sample)
        results.append(sample)
    np.testing.assert_array_equal(results[0]['gt_seg_map'], results[1]['gt_seg_map'])
    assert results[0].keys() == results[1].keys()
