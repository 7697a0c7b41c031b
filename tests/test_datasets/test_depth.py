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

from mmmim.datasets.transforms import LoadImage, RandomResizedCrop, UnreadableImageError, depth, read_image
from mmmim.utils import InputError
from mmmim.visualization.inputs import centre_square
from tests.images import tiff

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 12 bits


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
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def load(data, **options):
    return LoadImage(**options)({'img_path': 'some.file', 'img_bytes': data})['img']


DEEP = {
    '12 bits, grey PNG': png16(RAMP),
    '12 bits, grey TIFF': saved(RAMP, 'TIFF'),
    '12 bits, RGB PNG': png16(np.dstack([RAMP, RAMP.T, RAMP])),
    '12 bits, RGBA PNG': png16(np.dstack([RAMP, RAMP.T, RAMP, RAMP])),
    '12 bits, RGB TIFF': tiff(np.dstack([RAMP, RAMP.T, RAMP])),
    '10 bits, grey TIFF': saved(RAMP // 4, 'TIFF'),
    'int32 TIFF': saved(RAMP.astype(np.int32) - 1024, 'TIFF'),
    'int16 TIFF': tiff((RAMP.astype(np.int16) - 1024)[..., None]),
    'above 16 bits': saved(RAMP.astype(np.int32) * 100, 'TIFF'),
    'an offset': saved(RAMP + np.uint16(40_000), 'TIFF'),
}


@pytest.mark.parametrize('name', DEEP)
def test_lost_depth_is_said_once_with_the_remedy(warnings, name):
    for _ in range(2):
        load(DEEP[name])
    (message,) = warnings()
    assert message.startswith('some.file has values from ')
    assert 'window=(low, high)' in message
    depth._WARNED.clear()
    load(DEEP[name], window='minmax')
    assert len(warnings()) == 1


@pytest.mark.parametrize('name', DEEP)
@pytest.mark.parametrize('window', ['minmax', 'percentile'])
def test_a_window_uses_all_grey_levels(name, window):
    levels = np.unique(load(DEEP[name], window=window))
    assert len(levels) == 256


@pytest.mark.parametrize('name', [name for name in DEEP if name.startswith('12')])
def test_a_window_of_numbers_is_the_same_in_all_images(name):
    image = load(DEEP[name], window=(0, 4095))
    expected = np.round(RAMP / 4095 * 255)
    np.testing.assert_array_equal(image[..., 0], expected)
    np.testing.assert_array_equal(image[..., 1], expected.T if 'RGB' in name else expected)
    darker = load(DEEP[name], window=(0, 8190))
    assert darker.max() in (127, 128)


def test_hounsfield_units():
    image = load(DEEP['int32 TIFF'], window=(-160, 240))
    values = RAMP.astype(float) - 1024
    np.testing.assert_array_equal(image[..., 0], np.round((values.clip(-160, 240) + 160) / 400 * 255))


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


@pytest.mark.parametrize(
    'data',
    [
        saved((RAMP.astype(np.uint32) * 16).astype(np.uint16)),  # all bits
        saved(np.zeros((8, 8), np.uint16)),
        saved(np.full((8, 8), 100, np.uint16)),
        saved(np.zeros((8, 8), np.uint8)),
        saved((RAMP // 2048).astype(np.uint8)),  # dark, of eight bits
        saved(np.dstack([RAMP // 16] * 3).astype(np.uint8), 'TIFF'),
        png16(np.dstack([RAMP * 16] * 3)),
    ],
)
def test_no_warning_where_nothing_is_lost(warnings, data):
    load(data)
    assert not warnings()


@pytest.mark.parametrize('bands', [1, 3, 4])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_deep_colours_are_those_of_pillow(tmp_path, bands, orientation):
    """Without a window: the upper eight bits, turned as EXIF says."""
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 7, bands), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png16(pixels.squeeze())
    chunk_at = 33  # after the header
    body = exif.tobytes().removeprefix(b'Exif\0\0')
    from tests.images import png_chunk

    data = data[:chunk_at] + png_chunk(b'eXIf', body) + data[chunk_at:]
    eight = Image.fromarray((pixels >> 8).astype(np.uint8).squeeze())
    upright = {1: eight, 3: eight.rotate(180), 6: eight.rotate(-90, expand=True), 8: eight.rotate(90, expand=True)}
    expected = np.asarray(upright[orientation].convert('RGB'))
    np.testing.assert_array_equal(load(data)[..., ::-1], expected)


def test_a_damaged_deep_file_is_unreadable():
    data = png16(np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16))
    with pytest.raises(UnreadableImageError):
        load(data[: len(data) // 2])


def test_a_chunk_longer_than_its_file_takes_no_memory(monkeypatch):
    data = bytearray(png16(np.random.default_rng(0).integers(0, 65536, (24, 24, 3), dtype=np.uint16)))
    place = data.index(b'IDAT') - 4
    data[place : place + 4] = (2_800_000_000).to_bytes(4, 'big')
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it asks for 2.8 GB'))
    try:
        assert load(bytes(data)).shape == (24, 24, 3)
    except UnreadableImageError as error:
        assert 'some.file' in str(error)  # noqa: PT017


@pytest.mark.parametrize('window', ['max', (1,), (5, 1), ('a', 'b'), 3, [1, 1]])
def test_windows_without_a_meaning(window):
    with pytest.raises(InputError, match=r'no window .*give \(low, high\)'):
        LoadImage(window=window)


def test_grey_images_for_models_of_one_channel():
    colours = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    grey = load(saved(colours), channels=1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(colours).convert('L')))
    np.testing.assert_array_equal(load(saved(colours[..., 0]), channels=1)[..., 0], colours[..., 0])
    assert load(saved(RAMP), channels=1, window='minmax').shape == (64, 64, 1)
    packed = Image.fromarray(colours).convert('P')
    file = io.BytesIO()
    packed.save(file, 'PNG')
    assert load(file.getvalue(), channels=1).shape == (8, 9, 1)


BANDS = np.random.default_rng(0).integers(0, 256, (6, 7, 5), dtype=np.uint8)


@pytest.mark.parametrize('number', [4, 5])
def test_bands_that_are_left_out_are_named(warnings, number):
    """Pillow drops them, whatever they hold."""
    for _ in range(2):
        image = load(tiff(BANDS[..., :number], [0] * (number - 3)))
    np.testing.assert_array_equal(image[..., ::-1], BANDS[..., :3])
    (message,) = warnings()
    assert message.startswith(f'some.file has {number} bands, of which 3 are used')
    assert f'channels={number}' in message


def test_transparency_is_left_out_without_a_word(warnings):
    load(tiff(BANDS[..., :4], [2]))
    load(saved(BANDS[..., :4]))
    assert not warnings()


def test_bands_need_a_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(InputError, match=r'channels=5\) reads TIFF files by .*pip install tifffile'):
        load(tiff(BANDS), channels=5)
    with pytest.raises(UnreadableImageError, match=r'TIFF file of a kind .*channels=N\).*mmcv.*tifffile'):
        load(tiff(BANDS.astype(np.uint16), [0, 0]))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_bands_by_tifffile(dtype):
    pytest.importorskip('tifffile')
    data = tiff(BANDS.astype(dtype), [0, 0])
    image = load(data, channels=5)
    assert image.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(image, BANDS)
    assert load(data, channels=5, window=(0, 255)).dtype == np.uint8
    with pytest.raises(UnreadableImageError, match=r'5 channel\(s\), and mmmim.LoadImage was asked for 4'):
        load(data, channels=4)
    with pytest.raises(UnreadableImageError, match='7 x 6 pixels are more than the limit of 41'):
        load(data, channels=5, max_pixels=41)
    with pytest.raises(UnreadableImageError):
        load(data[:150], channels=5)


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


@pytest.mark.parametrize('planes', [False, True])
def test_bands_stay_in_their_order(monkeypatch, planes):
    monkeypatch.setitem(sys.modules, 'tifffile', fake_tifffile(BANDS, planes))
    np.testing.assert_array_equal(load(tiff(BANDS), channels=5), BANDS)
    with pytest.raises(UnreadableImageError, match='more than the limit of 41'):
        load(tiff(BANDS), channels=5, max_pixels=41)
    many = np.zeros((2, 2, 60_000), np.uint8)  # as its header says: the pixels are not decoded
    monkeypatch.setitem(sys.modules, 'tifffile', fake_tifffile(many, planes))
    with pytest.raises(UnreadableImageError, match=r'it has 60000 channel\(s\)'):
        load(tiff(BANDS), channels=5)


def test_four_bands_of_other_files():
    rgba = BANDS[..., :4]
    np.testing.assert_array_equal(load(saved(rgba), channels=4), rgba)
    with pytest.raises(UnreadableImageError, match=r'it has 3 channel\(s\), and mmmim.LoadImage was asked for 4'):
        load(saved(rgba[..., :3]), channels=4)


@pytest.mark.parametrize('shape', [(40, 50), (40, 50, 1), (40, 50, 2), (40, 50, 5)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_crops_of_any_number_of_channels_and_type(shape, dtype):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    crop = RandomResizedCrop(16)
    np.random.seed(3)  # noqa: NPY002
    results = crop({'img': image})['img']
    assert results.shape == (16, 16, *shape[2:])
    assert results.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    # Each channel is that of an RGB image of it.
    channel = image if image.ndim == 2 else image[..., -1]
    np.random.seed(3)  # noqa: NPY002
    expected = crop({'img': np.dstack([channel.astype(np.uint8)] * 3)})['img'][..., 0].astype(float)
    got = results if image.ndim == 2 else results[..., -1]
    assert np.abs(got.clip(0, 255) - expected).max() <= 2


@pytest.mark.parametrize('channels', [1, 2, 4, 5])
def test_squares_of_any_number_of_channels(channels):
    colours = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = centre_square(colours, 16)
    many = np.concatenate([colours, colours], axis=2)[..., :channels]
    np.testing.assert_array_equal(centre_square(many, 16), np.concatenate([expected, expected], axis=2)[..., :channels])
    deep = centre_square(many.astype(np.float32), 16)
    assert np.abs(deep.clip(0, 255) - np.concatenate([expected, expected], axis=2)[..., :channels]).max() <= 1


def test_an_eight_bit_image_is_read_as_ever(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    for window in (None, 'minmax', 'percentile', (0, 10)):
        np.testing.assert_array_equal(load((tmp_path / 'a.png').read_bytes(), window=window)[..., ::-1], pixels)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), pixels)
