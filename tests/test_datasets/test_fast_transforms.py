"""simplejpeg against Pillow, and torch's resizing against Pillow's, on photographs."""

import io

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from sklearn.datasets import load_sample_images

from mmmim.datasets.transforms import (
    LoadImage,
    RandomResizedCrop,
    UnreadableImageError,
    decode_image,
    decode_jpeg,
    jpeg,
    read_image,
)
from mmmim.utils import InputError

PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]
SMALL = PHOTOGRAPHS[0].crop((0, 0, 64, 48))


def encoded(image, kind='JPEG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0110], tags[0x0112] = 'a camera', orientation
    return tags


@pytest.mark.parametrize(
    'options',
    [
        *({'quality': quality, 'subsampling': sub} for quality in (60, 95) for sub in ('4:2:0', '4:2:2', '4:4:4')),
        {'quality': 85, 'progressive': True},
        {'quality': 85, 'icc_profile': b'profile', 'comment': b'Exif\0\0 in a comment'},
        {'exif': exif(1)},
    ],
    ids=lambda options: ' '.join(options) + str(options.get('quality', '')) + str(options.get('subsampling', '')),
)
def test_pixels_are_those_of_pillow(options):
    for photograph in PHOTOGRAPHS:
        # Sides that are no multiple of the blocks of 16 x 16.
        data = encoded(photograph.crop((0, 0, 333, 221)), **options)
        fast = decode_jpeg(data)
        assert fast.flags['C_CONTIGUOUS']
        np.testing.assert_array_equal(fast[..., ::-1], decode_image(data, 'x'), strict=True)
    grey = encoded(SMALL.convert('L'))
    np.testing.assert_array_equal(decode_jpeg(grey)[..., ::-1], decode_image(grey, 'x'))


@pytest.mark.parametrize(
    ('data', 'shape'),
    [
        (encoded(SMALL, exif=exif(6)), (64, 48)),
        (encoded(SMALL, xmp=b'<x tiff:Orientation="8"/>'), (64, 48)),
        (encoded(SMALL.convert('CMYK')), (48, 64)),
        (encoded(SMALL, 'PNG'), (48, 64)),
    ],
)
def test_the_rest_is_left_to_pillow(data, shape, tmp_path):
    assert decode_jpeg(data) is None
    (tmp_path / 'image.jpg').write_bytes(data)
    result = LoadImage()({'img_path': str(tmp_path / 'image.jpg')})
    np.testing.assert_array_equal(result['img'][..., ::-1], read_image(tmp_path / 'image.jpg'))
    assert result['img_shape'] == shape


def test_damaged_files_are_judged_by_pillow():
    whole = encoded(PHOTOGRAPHS[0].crop((0, 0, 200, 150)), quality=80)
    rng, outcomes = np.random.default_rng(0), set()
    for i in range(60):
        data = bytearray(whole)
        if i % 2:
            del data[rng.integers(2, len(whole)) :]
        else:
            data[rng.integers(2, len(whole))] ^= 1 << rng.integers(8)
        images = []
        for decoder in ('auto', 'pillow'):
            try:
                images.append(LoadImage(decoder)({'img_path': 'some.jpg', 'img_bytes': bytes(data)})['img'])
            except UnreadableImageError as error:
                images.append(str(error))
        outcomes.add(type(images[0]))
        np.testing.assert_array_equal(*images)
    assert outcomes == {np.ndarray, str}
    assert decode_jpeg(b'\xff\xd8\xff\xe0\x00\x00') is None


def test_without_the_library(monkeypatch):
    messages = []
    monkeypatch.setattr(jpeg, 'simplejpeg', None)
    monkeypatch.setattr(jpeg, 'print_log', lambda message, **_: messages.append(message))
    jpeg._recommend.cache_clear()
    data = encoded(SMALL)
    for _ in range(2):
        result = LoadImage()({'img_path': 'x', 'img_bytes': data})
    assert 'img_bytes' not in result
    np.testing.assert_array_equal(result['img'][..., ::-1], decode_image(data, 'x'))
    (message,) = messages
    assert 'mmmim[fast]' in message
    jpeg._recommend.cache_clear()


def test_crops_are_those_of_pillow():
    """The figures of the docstring: at most 2 grey levels, on average a hundredth of one; of flipped images, too."""
    options = {'scale': (224, 160), 'crop_ratio_range': (0.1, 1.0), 'interpolation': 'bicubic'}
    crops = [
        TRANSFORMS.build({'type': 'mmmim.RandomResizedCrop', **options}),
        TRANSFORMS.build({'type': 'mmpretrain.RandomResizedCrop', 'backend': 'pillow', **options}),
    ]
    worst, mean = 0, []
    for i in range(20):
        image = np.asarray(PHOTOGRAPHS[i % 2])[..., ::-1][:, :: 1 - 2 * (i % 4 > 1)]
        results = []
        for crop in crops:
            np.random.seed(i)  # noqa: NPY002
            results.append(crop({'img': image})['img'])
        assert results[0].shape == (224, 160, 3)
        difference = np.abs(results[0].astype(int) - results[1])
        worst, mean = max(worst, difference.max()), [*mean, difference.mean()]
    assert worst <= 2
    assert 0 < np.mean(mean) < 0.01


def test_wrong_options():
    with pytest.raises(InputError, match=r"no interpolation 'nearest'.*bicubic"):
        RandomResizedCrop(32, interpolation='nearest')
    with pytest.raises(InputError, match=r"no decoder 'cv2'.*pillow"):
        LoadImage('cv2')


def test_the_crop_of_mae_stays_inside_and_fits_every_image():
    transform = TRANSFORMS.build({'type': 'mmmim.MAERandomResizedCrop', 'scale': 8, 'crop_ratio_range': (0.5, 1.0)})
    for height, width in ((40, 9), (9, 40), (30, 30)):
        image = np.zeros((height, width, 3), np.uint8)
        crops = [transform.rand_crop_params(image) for _ in range(50)]
        assert all(top >= 0 and top + h <= height and left >= 0 and left + w <= width for top, left, h, w in crops)
        assert len(set(crops)) > 10
        # Long images are never cropped along their shorter side at these areas.
        assert height == width or all(min(h, w) == 9 for _, _, h, w in crops)
        assert transform({'img': image})['img'].shape == (8, 8, 3)
