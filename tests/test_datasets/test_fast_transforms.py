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


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, 'JPEG', **options)
    return file.getvalue()


@pytest.mark.parametrize('photograph', PHOTOGRAPHS)
@pytest.mark.parametrize(
    'options',
    [
        *({'quality': quality, 'subsampling': sub} for quality in (60, 95) for sub in ('4:2:0', '4:2:2', '4:4:4')),
        {'quality': 85, 'progressive': True},
        {'quality': 85, 'icc_profile': b'profile', 'comment': b'Exif\0\0 in a comment'},
    ],
)
def test_pixels_are_those_of_pillow(photograph, options):
    # Sides that are no multiple of the blocks of 16 x 16.
    data = encoded(photograph.crop((0, 0, 333, 221)), **options)
    fast = decode_jpeg(data)
    assert fast.shape == (221, 333, 3)
    assert fast.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(fast[..., ::-1], decode_image(data, 'x'))


def test_grey_and_upright_files_are_decoded_fast():
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = 'a camera', 1
    photograph = PHOTOGRAPHS[0].crop((0, 0, 64, 48))
    for data in (encoded(photograph.convert('L')), encoded(photograph, exif=exif)):
        np.testing.assert_array_equal(decode_jpeg(data)[..., ::-1], decode_image(data, 'x'))


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PHOTOGRAPHS[0].crop((0, 0, 64, 48)), exif=exif)


def turned_by_xmp():
    return encoded(PHOTOGRAPHS[0].crop((0, 0, 64, 48)), xmp=b'<x tiff:Orientation="8"/>', exif=Image.Exif())


def cmyk():
    return encoded(PHOTOGRAPHS[0].crop((0, 0, 64, 48)).convert('CMYK'))


def png():
    file = io.BytesIO()
    PHOTOGRAPHS[0].crop((0, 0, 64, 48)).save(file, 'PNG')
    return file.getvalue()


def header_of_nothing():
    return b'\xff\xd8\xff\xe0\x00\x00'


@pytest.mark.parametrize('make', [turned, turned_by_xmp, cmyk, png, header_of_nothing])
def test_the_rest_is_left_to_pillow(make, tmp_path):
    data = make()
    assert decode_jpeg(data) is None
    path = tmp_path / 'image.jpg'
    path.write_bytes(data)
    if make is header_of_nothing:
        with pytest.raises(UnreadableImageError, match=r'image\.jpg'):
            LoadImage()({'img_path': str(path)})
    else:
        result = LoadImage()({'img_path': str(path)})
        np.testing.assert_array_equal(result['img'][..., ::-1], read_image(path))
        assert result['img_shape'] == ((64, 48) if 'turned' in make.__name__ else (48, 64))


def test_damaged_files_are_judged_by_pillow():
    whole = encoded(PHOTOGRAPHS[0].crop((0, 0, 200, 150)), quality=80)
    rng = np.random.default_rng(0)
    outcomes = set()
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


def test_bytes_are_used_once():
    data = encoded(PHOTOGRAPHS[0])
    result = LoadImage()({'img_path': 'a name', 'img_bytes': data})
    assert 'img_bytes' not in result
    np.testing.assert_array_equal(result['img'], decode_jpeg(data))


def test_without_the_library(monkeypatch):
    messages = []
    monkeypatch.setattr(jpeg, 'simplejpeg', None)
    monkeypatch.setattr(jpeg, 'print_log', lambda message, **_: messages.append(message))
    jpeg._recommend.cache_clear()
    data = encoded(PHOTOGRAPHS[0])
    for _ in range(2):
        image = LoadImage()({'img_path': 'x', 'img_bytes': data})['img']
    np.testing.assert_array_equal(image[..., ::-1], decode_image(data, 'x'))
    assert len(messages) == 1
    assert 'mmmim[fast]' in messages[0]
    jpeg._recommend.cache_clear()


def test_crops_are_those_of_pillow():
    """The figures of the docstring: at most 2 grey levels, on average a hundredth of one."""
    options = {'scale': (224, 160), 'crop_ratio_range': (0.1, 1.0), 'interpolation': 'bicubic'}
    fast = TRANSFORMS.build({'type': 'mmmim.RandomResizedCrop', **options})
    slow = TRANSFORMS.build({'type': 'mmpretrain.RandomResizedCrop', 'backend': 'pillow', **options})
    worst, mean = 0, []
    for i in range(30):
        image = np.asarray(PHOTOGRAPHS[i % 2])[..., ::-1]
        results = []
        for crop in (fast, slow):
            np.random.seed(i)  # noqa: NPY002
            results.append(crop({'img': image})['img'].astype(int))
        difference = np.abs(results[0] - results[1])
        worst, mean = max(worst, difference.max()), [*mean, difference.mean()]
    assert results[0].shape == (224, 160, 3)
    assert worst <= 2
    assert 0 < np.mean(mean) < 0.01


def test_a_crop_of_noise_is_antialiased():
    """Without a filter, noise that is shrunk stays noise."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    crop = RandomResizedCrop(64, crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(1.0, 1.0))
    small = crop({'img': noise})['img']
    expected = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(small - expected).max() <= 2
    assert small.std() < noise.std() / 4


def test_flipped_images_can_be_cropped():
    image = np.asarray(PHOTOGRAPHS[0])
    crop = RandomResizedCrop(32, crop_ratio_range=(1.0, 1.0), interpolation='bilinear')
    flipped = crop({'img': image[:, ::-1]})['img']
    np.testing.assert_array_equal(flipped, crop({'img': np.ascontiguousarray(image[:, ::-1])})['img'])


def test_packing_takes_the_crop_as_it_is():
    result = RandomResizedCrop(32)({'img': np.asarray(PHOTOGRAPHS[0])})
    packed = TRANSFORMS.build({'type': 'mmpretrain.PackInputs'})(dict(result))['inputs']
    assert packed.shape == (3, 32, 32)
    assert packed.data_ptr() == result['img'].ctypes.data


def test_wrong_options():
    with pytest.raises(InputError, match=r"no interpolation 'nearest'.*bicubic"):
        RandomResizedCrop(32, interpolation='nearest')
    with pytest.raises(InputError, match=r"no decoder 'cv2'.*pillow"):
        LoadImage('cv2')
