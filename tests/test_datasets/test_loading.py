import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmmim.datasets.transforms import LoadImage, UnreadableImageError, read_image

RED, GREEN = (200, 10, 30), (20, 180, 60)


def two_colours(width=8, height=4):
    """Left half red, right half green."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, GREEN
    return pixels


def save(pixels, path, **kwargs):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **kwargs)
    return str(path)


def test_keys_and_channel_order_are_those_of_mmcv(tmp_path):
    path = save(two_colours(), tmp_path / 'image.png')
    mine, theirs = (
        TRANSFORMS.build({'type': t})({'img_path': path}) for t in ('mmmim.LoadImage', 'mmcv.LoadImageFromFile')
    )
    assert mine.keys() == theirs.keys()
    np.testing.assert_array_equal(mine['img'], theirs['img'], strict=True)
    assert mine['img'].flags['C_CONTIGUOUS']
    assert mine['img_shape'] == mine['ori_shape'] == (4, 8)
    with pytest.raises(KeyError):  # errors of other kinds are not caught
        LoadImage()({})


GREY = np.arange(32, dtype=np.uint8).reshape(4, 8)
DEEP = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
UPPER_BITS = np.dstack([np.array([[0, 0, 1, 128, 255]], np.uint8)] * 3)
PALETTE = Image.fromarray(two_colours()).convert('P', palette=Image.Palette.ADAPTIVE, colors=2)


@pytest.mark.filterwarnings('error:Palette images')
@pytest.mark.parametrize(
    ('suffix', 'stored', 'options', 'expected'),
    [
        *((suffix, two_colours(), {}, two_colours()) for suffix in ('png', 'bmp', 'tiff', 'ppm')),
        ('webp', two_colours(), {'lossless': True}, two_colours()),
        ('png', PALETTE, {'transparency': bytes([128, 7])}, two_colours()),
        ('png', np.dstack([two_colours(), np.full((4, 8), 7, np.uint8)]), {}, two_colours()),  # alpha is dropped
        ('png', GREY, {}, np.dstack([GREY] * 3)),
        ('png', np.array([[True, False]]), {}, np.array([[[255] * 3, [0] * 3]], np.uint8)),
        *((suffix, DEEP, {}, UPPER_BITS) for suffix in ('png', 'tiff', 'pgm')),
    ],
)
def test_pixels_that_are_kept_exactly(tmp_path, suffix, stored, options, expected):
    path = save(stored, tmp_path / f'image.{suffix}', **options)
    np.testing.assert_array_equal(read_image(path), expected, strict=True)


def test_cmyk_and_turned_jpeg_files(tmp_path):
    pixels = two_colours(32, 16)
    save(Image.fromarray(pixels).convert('CMYK'), tmp_path / 'cmyk.jpg', quality=95)
    np.testing.assert_allclose(read_image(tmp_path / 'cmyk.jpg')[:, ::31], pixels[:, ::31], atol=8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    path = save(pixels, tmp_path / 'turned.jpg', exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (32, 16, 3)
    np.testing.assert_allclose(image[[0, -1]], np.rot90(pixels, -1)[[0, -1]], atol=8)
    assert LoadImage()({'img_path': path})['img_shape'] == (32, 16)


def unreadable(path, data, message=''):
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=f'{path.name}: {message}') as caught:
        LoadImage()({'img_path': str(path)})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tiff', 'gif'])
def test_truncated(tmp_path, suffix):
    path = tmp_path / f'image.{suffix}'
    save(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), path)
    data = path.read_bytes()
    for share in (0.5, 0.9, 0.98):
        unreadable(path, data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ('suffix', 'start', 'damage'),
    [
        ('png', 33, b'\x00\x00\x01\x00'),  # Pillow raises SyntaxError,
        ('ppm', 3, b'x'),  # ValueError
        ('bmp', 18, b'\xff\xff\xff\x00\xff\xff\x00\x00'),  # and DecompressionBombError
    ],
)
def test_damaged(tmp_path, suffix, start, damage):
    path = tmp_path / f'image.{suffix}'
    save(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), path)
    data = path.read_bytes()
    unreadable(path, data[:start] + damage + data[start + len(damage) :])


@pytest.mark.parametrize(
    ('data', 'reason'),
    [(b'', 'the file is empty'), (b'not an image at all', 'no image format'), (None, 'no such file')],
)
def test_no_image(tmp_path, data, reason):
    unreadable(tmp_path / 'some.jpg', data, reason)
