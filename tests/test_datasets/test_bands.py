"""Images of any number of bands and bits are read without loss."""

import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import mask_collate
from mmmim.datasets.image_folder import ImageFolder
from mmmim.datasets.transforms import LoadImage, UnreadableImageError, depth
from mmmim.datasets.transforms.bands import describe
from mmmim.datasets.transforms.decoding import FORMATS
from mmmim.models.data_preprocessors import MIMDataPreprocessor
from mmmim.utils import InputError
from tests.images import png_chunk, tiff

RNG = np.random.default_rng(0)
U16 = RNG.integers(0, 65536, (15, 17, 13), dtype=np.uint16)
F32 = RNG.normal(0, 1e4, (15, 17, 13)).astype(np.float32)


def load(data, channels, **options):
    """Pixels in the order of the file."""
    image = LoadImage(channels=channels, **options)({'img_path': 'some.file', 'img_bytes': data})['img']
    return image[..., ::-1] if channels == 3 else image


def npy(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def pages(pixels):
    """A TIFF file with a page for each band."""
    first, *others = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, 2, 0))
    file = io.BytesIO()
    first.save(file, 'TIFF', save_all=True, append_images=others)
    return file.getvalue()


def png(pixels):
    """A PNG file of 16 bits, by the letter of its standard."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    header = struct.pack('>IIBBBBB', width, height, 16, kind, 0, 0, 0)
    chunks = png_chunk(b'IHDR', header), png_chunk(b'IDAT', zlib.compress(rows)), png_chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


WRITTEN = {
    **{f'PNG, 16 bits, {c}': (png(U16[..., :c]), U16[..., :c]) for c in (1, 2, 3, 4)},
    **{f'TIFF pages, 16 bits, {c}': (pages(U16[..., :c]), U16[..., :c]) for c in (1, 2, 4, 5, 13)},
    **{f'TIFF pages, float32, {c}': (pages(F32[..., :c]), F32[..., :c]) for c in (1, 5)},
    **{f'NPY, 16 bits, {c}': (npy(U16[..., :c]), U16[..., :c]) for c in (1, 2, 3, 4, 5, 13)},
    'TIFF, 16 bits, colours': (tiff(U16[..., :3]), U16[..., :3]),
    'TIFF, int16': (tiff(U16[..., :1].view(np.int16)), U16[..., :1].view(np.int16)),
    'TIFF, int32': (tiff(U16[..., :1].astype(np.int32) - 1024), U16[..., :1].astype(np.int32) - 1024),
    'TIFF, uint32': (tiff(U16[..., :1].astype(np.uint32) << 15), U16[..., :1].astype(np.uint32) << 15),
    'NPY, float32, 5': (npy(F32[..., :5]), F32[..., :5]),
    'NPY, channels first': (npy(U16.transpose(2, 0, 1)), U16),
    'NPY, one band': (npy(U16[..., 0]), U16[..., :1]),
    'NPY, order of Fortran, big-endian': (npy(np.asfortranarray(U16.astype('>u2'))), U16),
    'PPM, 16 bits': (cv2.imencode('.ppm', U16[..., 2::-1])[1].tobytes(), U16[..., :3]),
    'PGM, 16 bits': (cv2.imencode('.pgm', U16[..., 0])[1].tobytes(), U16[..., :1]),
}


@pytest.mark.parametrize('name', WRITTEN)
def test_what_is_written_is_read(name):
    data, pixels = WRITTEN[name]
    channels = pixels.shape[2]
    image = load(data, channels, window='keep')
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, pixels.astype(np.float64))
    transparent = name in ('PNG, 16 bits, 2', 'PNG, 16 bits, 4')
    assert describe(data, 255, FORMATS) == (channels - transparent, (15, 17))


@pytest.mark.parametrize('channels', [2, 3, 4, 5, 13])
@pytest.mark.parametrize('planes', ['contig', 'separate'])
@pytest.mark.parametrize('values', [U16, F32, U16.astype(np.uint8), U16.astype(np.float64)], ids=lambda v: v.dtype.name)
def test_tiff_files_of_many_bands(channels, planes, values):
    tifffile = pytest.importorskip('tifffile')
    pixels, file = values[..., :channels], io.BytesIO()
    written = np.moveaxis(pixels, 2, 0) if planes == 'separate' else pixels
    tifffile.imwrite(file, written, planarconfig=planes, photometric='minisblack', metadata=None)
    np.testing.assert_array_equal(load(file.getvalue(), channels, window='keep'), pixels)
    assert describe(file.getvalue(), 255, FORMATS) == (channels, (15, 17))


def test_eight_bits_are_as_ever_beside_them():
    pixels = U16[..., :3].astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    for window in (None, 'keep'):
        image = load(file.getvalue(), 3, window=window)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(load(npy(pixels), 3, window=window), pixels)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, 'PNG')
    np.testing.assert_array_equal(load(file.getvalue(), 3, window='keep'), np.repeat(pixels[..., :1], 3, axis=2))


def test_channels_that_are_asked_for():
    """Grey stands for colours, and transparency is dropped; bands are not."""
    np.testing.assert_array_equal(load(png(U16[..., :1]), 3, window='keep'), np.repeat(U16[..., :1], 3, axis=2))
    np.testing.assert_array_equal(load(png(U16[..., :4]), 3, window='keep'), U16[..., :3])
    np.testing.assert_array_equal(load(png(U16[..., :2]), 1, window='keep'), U16[..., :1])
    for data, found, asked in ((npy(U16[..., :4]), 4, 3), (pages(U16[..., :5]), 5, 4), (png(U16[..., :3]), 3, 1)):
        with pytest.raises(UnreadableImageError, match=rf'it has {found} channel\(s\).*images.channels={found}'):
            load(data, asked, window='keep')


def test_a_window_of_bands():
    np.testing.assert_array_equal(load(npy(U16), 13, window=(0, 65535)), np.round(U16 / 257).astype(np.uint8))
    np.testing.assert_array_equal(load(npy(U16[..., :3]), 3), (U16[..., :3] >> 8).astype(np.uint8))


def test_values_that_cannot_be_kept():
    values = F32[..., :1].copy()
    values[0, 0] = np.nan
    with pytest.raises(UnreadableImageError, match=r'1 of its 255 values are NaN or infinite.*fill them'):
        load(npy(values), 1, window='keep')
    depth._WARNED.clear()
    load(npy(np.full((4, 4, 5), 2**24 + 1)), 5)
    assert 'float32' in depth._WARNED
    depth._WARNED.clear()


def header(**changes):
    """A file ``.npy`` whose header says something else."""
    said = {'descr': '<u2', 'fortran_order': False, 'shape': (15, 17, 13), **changes}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue() + U16.tobytes()


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (header(shape=(15, 17, 12)), 'header promises 3060 values'),
        (header(shape=(2**40, 2**40, 13)), 'header promises'),
        (header(shape=(15, -17, 13)), 'shape'),
        (header(shape=(3315,)), 'shape'),
        (header(descr='|O'), 'object, and not of numbers'),
        (header(descr='<c8'), 'complex64, and not of numbers'),
        (npy(U16)[:40], 'some.file'),
        (npy(U16)[:-2], 'header promises'),
    ],
)
def test_hostile_arrays(data, message):
    with pytest.raises(UnreadableImageError, match=message):
        load(data, 13)


def test_large_arrays_are_refused_by_their_header():
    with pytest.raises(UnreadableImageError, match='17 x 15 pixels are more than the limit of 254'):
        load(npy(U16), 13, max_pixels=254)


def test_other_arrays_are_not_unpickled():
    file = io.BytesIO()
    np.save(file, np.array([{'a': 1}], object), allow_pickle=True)
    with pytest.raises(UnreadableImageError, match='and not of numbers'):
        load(file.getvalue(), 1)


def test_the_library_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[tiff\]"'):
        load(tiff(U16[..., :5]), 5)


def test_crops_and_batches_keep_values(tmp_path):
    """A crop of the whole image at its own size is the image; what reaches the model is normalised."""
    pixels = RNG.integers(0, 65536, (8, 8, 13), dtype=np.uint16)
    np.save(tmp_path / 'a.npy', pixels)
    crop = dict(type='mmmim.RandomResizedCrop', scale=8, crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(1.0, 1.0))
    pipeline = [dict(type='mmmim.LoadImage', channels=13), crop, dict(type='mmpretrain.RandomFlip', prob=1.0)]
    data = ImageFolder(str(tmp_path), pipeline=[*pipeline, dict(type='mmpretrain.PackInputs')])
    batch = mask_collate([data[0], data[0]], dict(type='mmmim.UniformMasking', mask_ratio=0.5), 4)
    np.testing.assert_allclose(batch['inputs'][0].permute(1, 2, 0), pixels[:, ::-1].astype(np.float32), atol=0.01)
    mean, std = pixels.mean((0, 1)).tolist(), pixels.std((0, 1)).tolist()
    images = MIMDataPreprocessor(mean, std, window='keep')(batch)['inputs']
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
