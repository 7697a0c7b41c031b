"""Images of more than eight bits, and of other numbers of bands than three."""

import io
import logging
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmmim.datasets.squares import centre_square
from mmmim.datasets.transforms import LoadImage, RandomResizedCrop, UnreadableImageError, depth
from mmmim.utils import InputError
from tests.images import png_chunk, tiff

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 12 bits
NOISE = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
BANDS = np.random.default_rng(0).integers(0, 256, (6, 7, 5), dtype=np.uint8)


@pytest.fixture
def warnings(caplog):
    """Messages of this test's warnings, which are given once per process."""
    depth._WARNED.clear()
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)
    depth._WARNED.clear()


def png16(pixels):
    """A PNG file of 16 bits, grey or RGB(A), which Pillow does not write."""
    order = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return cv2.imencode('.png', np.ascontiguousarray(order))[1].tobytes()


def saved(pixels, kind='PNG'):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind)
    return file.getvalue()


def load(data, **options):
    return LoadImage(**options)({'img_path': 'some.file', 'img_bytes': data})['img']


DEEP = {
    '12 bits, grey PNG': png16(RAMP),
    '12 bits, grey TIFF': saved(RAMP, 'TIFF'),
    '12 bits, RGB PNG': png16(np.dstack([RAMP, RAMP.T, RAMP])),
    '12 bits, RGB TIFF': tiff(np.dstack([RAMP, RAMP.T, RAMP])),
    'int32 TIFF': saved(RAMP.astype(np.int32) - 1024, 'TIFF'),
    'int16 TIFF': tiff((RAMP.astype(np.int16) - 1024)[..., None]),
    'above 16 bits': saved(RAMP.astype(np.int32) * 100, 'TIFF'),
}


@pytest.mark.parametrize('name', DEEP)
def test_lost_depth_is_said_once_with_the_remedy(warnings, name):
    for _ in range(2):
        load(DEEP[name])
    (message,) = warnings()
    assert message.startswith('some.file has values from ')
    assert 'window=(low, high)' in message
    assert ('become black or white' in message) == (name in ('int32 TIFF', 'int16 TIFF', 'above 16 bits'))
    depth._WARNED.clear()
    for window in ('minmax', 'percentile'):
        assert len(np.unique(load(DEEP[name], window=window))) == 256
    assert len(warnings()) == 1


def test_no_warning_where_nothing_is_lost(warnings):
    for data in (
        saved(RAMP * 16),
        png16(np.dstack([RAMP * 16] * 3)),
        saved(np.full((8, 8), 100, np.uint16)),
        saved((RAMP // 2048).astype(np.uint8)),  # dark, of eight bits
        tiff(BANDS[..., :4], [2]),  # transparency
    ):
        load(data)
    assert not warnings()


@pytest.mark.parametrize('name', [name for name in DEEP if name.startswith('12')])
def test_a_window_of_numbers_is_the_same_in_all_images(name):
    image = load(DEEP[name], window=(0, 4095))
    expected = np.round(RAMP / 4095 * 255)
    np.testing.assert_array_equal(image[..., 0], expected)
    np.testing.assert_array_equal(image[..., 1], expected.T if 'RGB' in name else expected)
    assert load(DEEP[name], window=(0, 8190)).max() in (127, 128)


def test_values_below_zero_and_images_of_eight_bits():
    image = load(DEEP['int32 TIFF'], window=(-160, 240))  # of Hounsfield units
    values = RAMP.astype(float) - 1024
    np.testing.assert_array_equal(image[..., 0], np.round((values.clip(-160, 240) + 160) / 400 * 255))
    for window in (None, 'minmax', 'percentile', (0, 10)):
        np.testing.assert_array_equal(load(saved(BANDS[..., :3]), window=window)[..., ::-1], BANDS[..., :3])


def test_floating_point_pixels():
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    values[0, :2] = np.nan, np.inf
    data = saved(values, 'TIFF')
    with pytest.raises(UnreadableImageError, match=r'floating-point.*window=\(0, 1\)'):
        load(data)
    for window in ((0, 1), 'minmax', 'percentile'):
        image = load(data, window=window)
        assert len(np.unique(image)) == 256
        assert image[0, :2, 0].tolist() == [0, 255]
    with pytest.raises(UnreadableImageError, match='no pixel is a finite number'):
        load(saved(np.full((4, 4), np.nan, np.float32), 'TIFF'), window='minmax')


@pytest.mark.parametrize('bands', [1, 3, 4])
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_deep_colours_are_those_of_pillow(bands, orientation):
    """Without a window: the upper eight bits, turned as EXIF says."""
    pixels = NOISE.reshape(-1)[: 63 * bands].reshape(9, 7, bands)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, header = png16(pixels.squeeze()), 33
    data = data[:header] + png_chunk(b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0')) + data[header:]
    eight = Image.fromarray((pixels >> 8).astype(np.uint8).squeeze())
    upright = {1: eight, 3: eight.rotate(180), 6: eight.rotate(-90, expand=True)}
    np.testing.assert_array_equal(load(data)[..., ::-1], np.asarray(upright[orientation].convert('RGB')))


def test_damaged_deep_files(monkeypatch):
    data = bytearray(png16(NOISE))
    with pytest.raises(UnreadableImageError):
        load(bytes(data[: len(data) // 2]))
    # A chunk longer than its file takes no memory.
    place = data.index(b'IDAT') - 4
    data[place : place + 4] = (2_800_000_000).to_bytes(4, 'big')
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it asks for 2.8 GB'))
    try:
        assert load(bytes(data)).shape == (64, 64, 3)
    except UnreadableImageError as error:
        assert 'some.file' in str(error)  # noqa: PT017


@pytest.mark.parametrize('window', ['max', (1,), ('a', 'b'), 3, [1, 1]])
def test_windows_without_a_meaning(window):
    with pytest.raises(InputError, match=r'no window .*give \(low, high\)'):
        LoadImage(window=window)


def test_images_for_models_of_one_and_of_four_channels():
    colours = Image.fromarray(BANDS[..., :3])
    np.testing.assert_array_equal(load(saved(colours), channels=1)[..., 0], np.asarray(colours.convert('L')))
    np.testing.assert_array_equal(load(saved(BANDS[..., 0]), channels=1)[..., 0], BANDS[..., 0])
    assert load(saved(RAMP), channels=1, window='minmax').shape == (64, 64, 1)
    assert load(saved(colours.convert('P')), channels=1).shape == (6, 7, 1)
    np.testing.assert_array_equal(load(saved(BANDS[..., :4]), channels=4), BANDS[..., :4])


def test_bands_that_are_left_out_are_named(warnings):
    """Pillow drops them, whatever they hold."""
    for _ in range(2):
        image = load(tiff(BANDS, [0, 0]))
    np.testing.assert_array_equal(image[..., ::-1], BANDS[..., :3])
    (message,) = warnings()
    assert message.startswith('some.file has 5 bands, of which 3 are used')
    assert 'channels=5' in message


def test_bands_need_a_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(InputError, match=r'channels=5\) reads TIFF files .*pip install "mmmim\[tiff\]"'):
        load(tiff(BANDS), channels=5)
    with pytest.raises(UnreadableImageError, match=r'TIFF file of a kind .*channels=N\).*mmmim stats'):
        load(tiff(BANDS.astype(np.uint16), [0, 0]))


def fake_tifffile(bands, planes=False):
    """What is used of the library, which need not be installed: pages of a file, their size and pixels."""

    class Page:
        (imagelength, imagewidth), imagedepth, samplesperpixel = bands.shape[:2], 1, bands.shape[2]
        planarconfig = 2 if planes else 1

        def asarray(self):
            return bands.transpose(2, 0, 1) if planes else bands

    class TiffFile:
        pages = (Page(),)

        def __init__(self, file):
            assert file.read(4) == b'II*\0'

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    module = ModuleType('tifffile')
    module.TiffFile = TiffFile
    return module


@pytest.mark.parametrize('library', ['tifffile', 'pixels', 'planes'])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_bands(monkeypatch, library, dtype):
    if library == 'tifffile':
        pytest.importorskip('tifffile')
    else:
        monkeypatch.setitem(sys.modules, 'tifffile', fake_tifffile(BANDS.astype(dtype), library == 'planes'))
    data = tiff(BANDS.astype(dtype), [0, 0])
    image = load(data, channels=5)
    assert image.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(image, BANDS)
    assert load(data, channels=5, window=(0, 255)).dtype == np.uint8
    with pytest.raises(UnreadableImageError, match=r'5 channel\(s\), and mmmim.LoadImage was asked for 4'):
        load(data, channels=4)
    with pytest.raises(UnreadableImageError, match='7 x 6 pixels are more than the limit of 41'):
        load(data, channels=5, max_pixels=41)
    if library == 'tifffile':
        with pytest.raises(UnreadableImageError):
            load(data[:150], channels=5)
    else:
        many = np.zeros((2, 2, 60_000), np.uint8)  # as its header says: the pixels are not decoded
        monkeypatch.setitem(sys.modules, 'tifffile', fake_tifffile(many))
        with pytest.raises(UnreadableImageError, match=r'it has 60000 channel\(s\)'):
            load(data, channels=5)


@pytest.mark.parametrize('shape', [(40, 50), (40, 50, 1), (40, 50, 5)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_crops_and_squares_of_any_number_of_channels_and_type(shape, dtype):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    channel = image if image.ndim == 2 else image[..., -1]
    colours = np.dstack([channel.astype(np.uint8)] * 3)
    crop = RandomResizedCrop(16)
    changes = [lambda pixels: crop({'img': pixels})['img']]
    if image.ndim == 3:
        changes.append(lambda pixels: centre_square(pixels, 16))
    for change in changes:
        found = []
        for pixels in (image, colours):
            np.random.seed(3)  # noqa: NPY002
            found.append(change(pixels))
        assert found[0].shape == (16, 16, *shape[2:])
        assert found[0].dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        # Each channel is that of an RGB image of it.
        last = found[0] if image.ndim == 2 else found[0][..., -1]
        assert np.abs(last.clip(0, 255) - found[1][..., 0].astype(float)).max() <= 2
