import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS
from PIL import Image

from mmmim.datasets.transforms import LoadImage, UnreadableImageError, read_image

RED, GREEN = (200, 10, 30), (20, 180, 60)


def two_colours(width=8, height=4):
    """Left half red, right half green."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, GREEN
    return pixels


def noise(size=64):
    return np.random.RandomState(0).randint(0, 256, (size, size, 3)).astype(np.uint8)


def save(pixels, path, **kwargs):
    Image.fromarray(pixels).save(path, **kwargs)
    return str(path)


def test_keys_and_channel_order_are_those_of_mmcv(tmp_path):
    path = save(two_colours(), tmp_path / 'image.png')
    mine = LoadImage()({'img_path': path})
    theirs = MMPRETRAIN_TRANSFORMS.build({'type': 'mmcv.LoadImageFromFile'})({'img_path': path})
    assert mine.keys() == theirs.keys()
    np.testing.assert_array_equal(mine['img'], theirs['img'])
    assert mine['img'].dtype == np.uint8
    assert mine['img'].flags['C_CONTIGUOUS']
    assert mine['img_shape'] == mine['ori_shape'] == (4, 8)


def test_builds_in_an_mmpretrain_pipeline_by_its_prefixed_name():
    assert isinstance(MMPRETRAIN_TRANSFORMS.build({'type': 'mmmim.LoadImage'}), LoadImage)


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'tiff', 'ppm', 'webp'])
def test_lossless_formats(tmp_path, suffix):
    path = save(two_colours(), tmp_path / f'image.{suffix}', **({'lossless': True} if suffix == 'webp' else {}))
    np.testing.assert_array_equal(read_image(path), two_colours())


@pytest.mark.filterwarnings('error:Palette images')
def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(two_colours()).convert('P', palette=Image.Palette.ADAPTIVE, colors=2)
    image.save(tmp_path / 'image.png', transparency=bytes([128, 7]))
    assert Image.open(tmp_path / 'image.png').mode == 'P'
    np.testing.assert_array_equal(read_image(tmp_path / 'image.png'), two_colours())


def test_alpha_is_dropped(tmp_path):
    rgba = np.dstack([two_colours(), np.full((4, 8), 7, np.uint8)])
    np.testing.assert_array_equal(read_image(save(rgba, tmp_path / 'image.png')), two_colours())


def test_grey_becomes_three_channels(tmp_path):
    grey = np.arange(32, dtype=np.uint8).reshape(4, 8)
    np.testing.assert_array_equal(read_image(save(grey, tmp_path / 'image.png')), np.dstack([grey] * 3))


def test_one_bit(tmp_path):
    bits = np.array([[True, False]])
    assert read_image(save(bits, tmp_path / 'image.png'))[0, :, 0].tolist() == [255, 0]


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(two_colours(32, 32)).convert('CMYK').save(tmp_path / 'image.jpg', quality=95)
    assert Image.open(tmp_path / 'image.jpg').mode == 'CMYK'
    np.testing.assert_allclose(read_image(tmp_path / 'image.jpg')[:, ::31], two_colours(32, 32)[:, ::31], atol=8)


@pytest.mark.parametrize('suffix', ['png', 'tiff', 'pgm'])
def test_sixteen_bit_keeps_its_upper_bits(tmp_path, suffix):
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    image = read_image(save(deep, tmp_path / f'image.{suffix}'))
    assert image[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert image.shape == (1, 5, 3)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    path = save(two_colours(32, 16), tmp_path / 'image.jpg', exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (32, 16, 3)
    np.testing.assert_allclose(image[[0, -1]], np.rot90(two_colours(32, 16), -1)[[0, -1]], atol=8)
    assert LoadImage()({'img_path': path})['img_shape'] == (32, 16)


def truncated(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize('share', [0.5, 0.9, 0.98])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'bmp', 'tiff', 'gif'])
def test_truncated(tmp_path, suffix, share):
    path = tmp_path / f'image.{suffix}'
    save(noise(), path)
    truncated(path, share)
    with pytest.raises(UnreadableImageError, match='image.' + suffix):
        read_image(path)


@pytest.mark.parametrize(
    ('suffix', 'start', 'damage'),
    [
        ('png', 45, bytes(15)),  # Pillow raises OSError,
        ('png', 33, b'\x00\x00\x01\x00'),  # SyntaxError,
        ('ppm', 3, b'x'),  # ValueError
        ('bmp', 18, b'\xff\xff\xff\x00\xff\xff\x00\x00'),  # and DecompressionBombError
    ],
)
def test_damaged(tmp_path, suffix, start, damage):
    path = tmp_path / f'image.{suffix}'
    save(noise(), path)
    data = bytearray(path.read_bytes())
    data[start : start + len(damage)] = damage
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match='image.' + suffix):
        read_image(path)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [(b'', 'the file is empty'), (b'not an image at all', 'no image format'), (None, 'no such file')],
)
def test_no_image(tmp_path, content, reason):
    path = tmp_path / 'some.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=f'some.jpg: {reason}') as caught:
        LoadImage()({'img_path': str(path)})
    assert '\n' not in str(caught.value)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UnreadableImageError, match='directory'):
        read_image(tmp_path)


def test_floating_point_pixels_are_refused(tmp_path):
    path = save(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), tmp_path / 'image.tiff')
    with pytest.raises(UnreadableImageError, match='floating-point'):
        read_image(path)


def test_other_errors_are_not_caught():
    with pytest.raises(KeyError):
        LoadImage()({})
