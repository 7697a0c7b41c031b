"""simplejpeg and OpenCV against Pillow, and torch's resizing against Pillow's, on photographs."""

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


@pytest.fixture(params=['simplejpeg', 'OpenCV'])
def decoder(request, monkeypatch):
    """Both libraries that decode ordinary files."""
    if request.param == 'OpenCV':
        monkeypatch.setattr(jpeg, 'simplejpeg', None)
    return request.param


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
def test_pixels_are_those_of_pillow(options, decoder):
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
def test_the_rest_is_left_to_pillow(data, shape, decoder, tmp_path):
    assert decode_jpeg(data) is None
    (tmp_path / 'image.jpg').write_bytes(data)
    result = LoadImage()({'img_path': str(tmp_path / 'image.jpg')})
    np.testing.assert_array_equal(result['img'][..., ::-1], read_image(tmp_path / 'image.jpg'))
    assert result['img_shape'] == shape


DAMAGE = {
    'cut off': lambda data, place, rng: data[:place],
    'cut off near the end': lambda data, place, rng: data[: -1 - place % 30],
    'cut off, and an end': lambda data, place, rng: data[:place] + b'\xff\xd9',
    'cut off, and zeros': lambda data, place, rng: data[:place].ljust(len(data), b'\0'),
    'a bit': lambda data, place, rng: data[:place] + bytes([data[place] ^ 1 << rng.integers(8)]) + data[place + 1 :],
    'other bytes': lambda data, place, rng: data[:place] + rng.bytes(20) + data[place + 20 :],
    'a marker': lambda data, place, rng: data[:place] + bytes([255, rng.integers(192, 256)]) + data[place + 2 :],
    'a hole': lambda data, place, rng: data[:place] + data[place + 50 :],
    'more at the end': lambda data, place, rng: data + b'some text',
}


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'restart_marker_rows': 1}], ids=str)
@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_files_are_judged_by_pillow(damage, options, decoder):
    """The same pixels or the same sentence, wherever the damage is."""
    whole = encoded(PHOTOGRAPHS[0].crop((0, 0, 120, 90)), quality=80, **options)
    rng = np.random.default_rng(0)
    for place in np.linspace(2, len(whole) - 60, 12).astype(int):
        data = DAMAGE[damage](whole, int(place), rng)
        outcomes = []
        for kind in ('auto', 'pillow'):
            try:
                outcomes.append(LoadImage(kind)({'img_path': 'some.jpg', 'img_bytes': data})['img'])
            except UnreadableImageError as error:
                outcomes.append(str(error))
        assert type(outcomes[0]) is type(outcomes[1])
        np.testing.assert_array_equal(*outcomes)
    if damage == 'cut off':
        assert all(decode_jpeg(whole[:place]) is None for place in range(4, len(whole), 199))


def test_larger_images_than_the_limit_are_refused(decoder):
    data = encoded(SMALL)
    assert decode_jpeg(data, SMALL.width * SMALL.height) is not None
    with pytest.raises(UnreadableImageError, match='more than the limit of 3071'):
        LoadImage(max_pixels=SMALL.width * SMALL.height - 1)({'img_path': 'x', 'img_bytes': data})


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
