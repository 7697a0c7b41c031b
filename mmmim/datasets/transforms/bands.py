"""From the bytes of an image file to its values as they are: any number of bands, any number of bits."""

import io
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from mmmim.utils import InputError

from .depth import warn_once
from .pillow import opened

#: The first bytes of an array of numpy, and of TIFF files.
NUMPY = b'\x93NUMPY'
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
SAMPLES, EXTRA_SAMPLES, BITS, SAMPLE_FORMAT = 277, 338, 258, 339
#: Whole numbers up to this one are exact in float32.
EXACT = 2**24
#: Pages of a file that are counted.
_MOST_PAGES = 4096
#: Orientations of EXIF, as turns of an array ``[H, W, C]``.
_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class NoPixels(ValueError):
    """Pillow cannot say what a TIFF file holds; tifffile may."""


def check_pixels(width: int, height: int, limit: int) -> None:
    """Refuse a size before anything is decoded.

    Raises:
        ValueError: It has more pixels than the limit.
    """
    if width * height > limit:
        raise ValueError(
            f'{width} x {height} pixels are more than the limit of {limit}; if such images are meant, raise '
            f'max_pixels of mmmim.LoadImage, or the environment variable MMMIM_MAX_IMAGE_PIXELS'
        )


def bands_of(data: bytes, channels: int, limit: int, formats: tuple[str, ...]) -> np.ndarray | None:
    """The values of an image file, of the type that the file has.

    Args:
        data: Content of the file.
        channels: C, the number of bands. Of 1 and 3, images of eight bits are colours, which are converted elsewhere.
        limit: Most pixels that an image may have.
        formats: Formats that are read, by Pillow's names.

    Returns:
        ``[H, W, C]``; None: an image of eight bits that is to become 1 or 3 colours.

    Raises:
        ValueError: The file has another number of bands, is too large or cannot be read without loss; Pillow and other
            libraries raise other errors of damaged files.
        InputError: A library is missing.
    """
    if data[: len(NUMPY)] == NUMPY:
        return as_asked(_array(data, channels, limit), channels)
    try:
        with opened(data, formats) as image:
            check_pixels(*image.size, limit)
            if channels in (1, 3) and not _is_deep(image, data):
                return None
            return as_asked(_pillow(image, data, channels), channels, _has_alpha(image))
    except (NoPixels, Image.UnidentifiedImageError, ValueError) as error:
        known = isinstance(error, NoPixels | Image.UnidentifiedImageError) or 'raw mode' in str(error)
        if data[:4] not in TIFF or not known:
            raise
    return as_asked(_tifffile(data, channels, limit), channels)


def as_asked(bands: np.ndarray, channels: int, alpha: bool = False) -> np.ndarray:
    """Bands ``[H, W, C]`` as the number asked for, where no value is lost: grey as colours, and without transparency.

    Raises:
        ValueError: There is another number of bands.
    """
    found = bands.shape[2]
    if found == 1 and channels == 3:
        return np.repeat(bands, 3, axis=2)
    if alpha and found == channels + 1 and channels in (1, 3):
        return bands[..., :channels]
    if found != channels:
        raise ValueError(
            f'it has {found} channel(s), and mmmim.LoadImage was asked for {channels}; images.channels={found} of a '
            'config reads them all'
        )
    return bands


def as_floats(values: np.ndarray) -> np.ndarray:
    """Values of more than eight bits as float32, which holds every whole number of up to 24 bits.

    Raises:
        ValueError: Some are NaN or infinite.
    """
    numbers = np.ascontiguousarray(values, np.float32)
    if values.dtype.kind == 'f':
        wrong = numbers.size - int(np.isfinite(numbers).sum())
        if wrong:
            raise ValueError(
                f'{wrong} of its {numbers.size} values are NaN or infinite in float32: fill them where there are no '
                'data, for example by the mean of their band'
            )
    elif values.dtype.itemsize > 2 and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
        warn_once('float32', f'Whole numbers above {EXACT} (2**24), to {values.max()}, are rounded to float32')
    return numbers


def deep_colours(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Colours ``[H, W, C]``, uint16, in the order of the file, where it has 16 bits and Pillow keeps the upper eight.

    C is 3, 4 with transparency, or 2: grey with transparency. None where the file is another one.
    """
    if image.mode not in ('RGB', 'RGBA', 'RGBX') or not _is_deep(image, data):
        return None
    if image.format == 'PNG' and not _chunks_are_whole(data):
        return None
    image.load()  # which finds damage
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), lambda x: x)
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.shape[:2] != image.size[::-1] or array.ndim != 3:
        return None
    # OpenCV makes colours of grey with transparency.
    order = [0, 3] if image.format == 'PNG' and data[25] == 4 else [2, 1, 0, 3][: array.shape[2]]
    return np.ascontiguousarray(turn(array[..., order]))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether an image has more than eight bits per value."""
    if image.mode == 'F' or image.mode.startswith('I'):
        return True
    if image.format == 'PNG':
        return data[24] == 16  # in the first chunk
    if image.format == 'TIFF':
        return max(image.tag_v2.get(BITS, (8,))) > 8  # type: ignore[attr-defined]
    if image.format == 'PPM':
        values = image.tile[0][3]  # type: ignore[attr-defined]
        return isinstance(values, tuple) and len(values) > 1 and values[1] > 255
    return False


def _has_alpha(image: Image.Image) -> bool:
    """Whether the last band is marked as transparency."""
    if image.format == 'TIFF':
        extra = image.tag_v2.get(EXTRA_SAMPLES, ())  # type: ignore[attr-defined]
        return (extra[-1:] if isinstance(extra, tuple) else (extra,)) in ((1,), (2,))
    return image.mode in ('RGBA', 'LA')


def _pillow(image: Image.Image, data: bytes, channels: int) -> np.ndarray:
    """``[H, W, C]`` of what Pillow reads without loss: colours, and pages of one band each."""
    grey = image.mode in ('L', 'F') or image.mode.startswith('I')
    if image.format == 'TIFF':
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        samples, kind = tags.get(SAMPLES, 1), tags.get(SAMPLE_FORMAT, (1,))
        kind = kind[0] if isinstance(kind, tuple) else kind
        if samples != (1 if grey else len(image.getbands())) or (image.mode == 'L' and kind != 1):
            raise NoPixels
        if grey:
            return np.stack(_pages(image, channels, unsigned=kind == 1 and tags.get(BITS, (0,))[0] == 32), axis=2)
    if not grey and _is_deep(image, data):
        deep = deep_colours(image, data)
        if deep is None:
            if image.format == 'TIFF':
                raise NoPixels
            raise ValueError('it has more than eight bits per value, in a form that is not read without loss')
        return deep
    image.load()
    bands = np.array(ImageOps.exif_transpose(image))
    return bands[..., None] if bands.ndim == 2 else bands


def _pages(image: Image.Image, channels: int, unsigned: bool) -> list[np.ndarray]:
    """Pages of one band each, ``[H, W]``: the first for one channel, else those of equal size, one more at most."""
    pages: list[np.ndarray] = []
    size, mode = image.size, image.mode
    for number in range(1 if channels == 1 else channels + 1):
        try:
            image.seek(number)
        except EOFError:
            break
        if (image.size, image.mode) != (size, mode):  # an overview, such as GeoTIFF's
            break
        page = np.array(ImageOps.exif_transpose(image))
        pages.append(page.view(np.uint32) if unsigned and page.dtype == np.int32 else page)
    return pages


def _array(data: bytes, channels: int, limit: int) -> np.ndarray:
    """``[H, W, C]`` of a file ``.npy``, whose header is compared with its size before anything else is read."""
    stream = io.BytesIO(data)
    shape, fortran, kind = _array_shape(stream)
    number = 1
    for side in shape:
        number *= int(side)
    if number * kind.itemsize != len(data) - stream.tell():
        raise ValueError(f'its header promises {number} values, and the file holds another number')
    shape = (*shape, 1) if len(shape) == 2 else shape
    first = shape[0] == channels and shape[2] != channels
    height, width = shape[1:] if first else shape[:2]
    check_pixels(width, height, limit)
    values = np.frombuffer(data, kind, offset=stream.tell()).reshape(shape, order='F' if fortran else 'C')
    values = values.astype(kind.newbyteorder('='))
    return values.transpose(1, 2, 0) if first else values


def _array_shape(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of a file ``.npy`` that holds an image; the stream is then at its values."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f'an array of numpy of version {version}')
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, kind = read(stream)
    except Exception as error:  # the tokenizer of Python has its own
        raise ValueError(f'its header is none of an array: {_words(error)}') from None
    if kind.hasobject or kind.kind not in 'uif':
        raise ValueError(f'an array of {kind}, and not of numbers')
    if len(shape) not in (2, 3) or not all(side > 0 for side in shape):
        raise ValueError(f'an array of the shape {shape}, and not [H, W], [H, W, C] or [C, H, W]')
    return shape, fortran, kind


def _chunks_are_whole(data: bytes) -> bool:
    """Whether no chunk of a PNG file is longer than the file, for which OpenCV would ask for memory."""
    place = 8
    while place + 8 <= len(data):
        place += 12 + int.from_bytes(data[place : place + 4], 'big')
    return place <= len(data)


def _tifffile(data: bytes, channels: int, limit: int) -> np.ndarray:
    """``[H, W, C]`` of a TIFF file that Pillow does not read: many bands in a page, or a page each."""
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f'mmmim.LoadImage(channels={channels}) reads TIFF files of such bands by the library tifffile: pip install '
            '"mmmim[tiff]"'
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            check_pixels(page.imagewidth, page.imagelength * page.imagedepth, limit)
            samples = page.samplesperpixel
            if samples > max(channels, 1):
                raise ValueError(f'it has {samples} channel(s), and mmmim.LoadImage was asked for {channels}')
            bands = page.asarray()
            if samples > 1:
                return bands.transpose(1, 2, 0) if page.planarconfig == 2 else bands
            more = _further(file, page, channels + 1 if channels > 1 else 1)
            return np.stack([bands, *(page.asarray() for page in more)], axis=2)
    except Exception as error:  # it does not say which ones
        raise ValueError(_words(error)) from None


def _further(file: Any, first: Any, most: int) -> list[Any]:
    """The pages of a TIFF file after the first one that are of its size, and of one band; ``most`` with the first."""
    found: list[Any] = []
    for number in range(1, most):
        try:
            page = file.pages[number]
        except IndexError:
            break
        size = (page.imagelength, page.imagewidth, page.samplesperpixel)
        if size != (first.imagelength, first.imagewidth, 1):
            break
        found.append(page)
    return found


def describe(data: bytes, limit: int, formats: tuple[str, ...]) -> tuple[int, tuple[int, int]]:
    """Channels and size of an image file, from its header.

    Args:
        data: Content of the file, or its first bytes.
        limit: Most pixels that an image may have.
        formats: Formats that are read, by Pillow's names.

    Returns:
        Channels without those marked as transparency, colours of a palette as 3; and (height, width).

    Raises:
        ValueError: The file is too large or no image; Pillow and other libraries raise other errors of damaged files.
    """
    if data[: len(NUMPY)] == NUMPY:
        shape = _array_shape(io.BytesIO(data))[0]
        if len(shape) == 3 and shape[0] < shape[2]:
            return shape[0], (shape[1], shape[2])
        return (1 if len(shape) == 2 else shape[2]), (shape[0], shape[1])
    try:
        with opened(data, formats) as image:
            check_pixels(*image.size, limit)
            size = image.height, image.width
            if image.format != 'TIFF':
                grey = image.mode[0] in '1LIF' or (image.format == 'PNG' and data[25] == 4)
                return (1 if grey else 3), size
            samples = image.tag_v2.get(SAMPLES, 1) - _has_alpha(image)  # type: ignore[attr-defined]
            return (3 if image.mode == 'P' else samples if samples > 1 else _number_of_pages(image)), size
    except (Image.UnidentifiedImageError, ValueError):
        if data[:4] not in TIFF:
            raise
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            check_pixels(page.imagewidth, page.imagelength * page.imagedepth, limit)
            samples = page.samplesperpixel
            channels = samples if samples > 1 else 1 + len(_further(file, page, _MOST_PAGES))
            return channels, (page.imagelength, page.imagewidth)
    except Exception as error:  # it does not say which ones
        raise ValueError(_words(error)) from None


def _number_of_pages(image: Image.Image) -> int:
    """Pages of the size of the first one."""
    size = image.size
    for number in range(1, _MOST_PAGES):
        try:
            image.seek(number)
        except EOFError:
            return number
        if image.size != size:
            return number
    return _MOST_PAGES


def _words(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
