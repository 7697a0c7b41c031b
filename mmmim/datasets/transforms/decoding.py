"""From the bytes of an image file to pixels: what is read, up to which size, and as what."""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mmmim.utils import InputError
from mmmim.utils.names import printable

from .depth import check_window, to_eight_bits, warn_once, what_is_lost
from .pillow import PILLOW_ERRORS, opened

#: Pixels of the largest image that is decoded unless a pipeline or :data:`LIMIT_VARIABLE` says otherwise: 10 000 x
#: 8 000. Decoding holds up to 12 bytes per pixel.
MAX_PIXELS = 80_000_000
#: Environment variable that replaces :data:`MAX_PIXELS` in pipelines and tools alike.
LIMIT_VARIABLE = 'MMMIM_MAX_IMAGE_PIXELS'
#: Bytes of a file per pixel of the limit.
_BYTES_PER_PIXEL = 8
#: Pillow's names of the formats that are read: those of ``mmmim.datasets.image_folder.IMAGE_EXTENSIONS``.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM')
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_SAMPLES, _EXTRA_SAMPLES, _BITS = 277, 338, 258
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


class UnreadableImageError(OSError, InputError):
    """An image file that is missing, empty, truncated, too large or no image.

    Data sets of the toolbox leave such images out; where others do not, tools print it and end.

    Args:
        message: The path and the reason. What is not printable in it is escaped, so that it is one line. Of the stack
            trace that torch prepends where it crosses the boundary of a data loader worker, nothing is kept.
    """

    def __init__(self, message: str) -> None:
        if 'DataLoader worker process' in message:
            message = re.split(r'\bUnreadableImageError: ', message)[-1].strip()
        super().__init__(printable(message, longest=None))


@dataclass(frozen=True)
class ReadOptions:
    """How images are read; the defaults are those of tools.

    Attributes:
        channels: 3: RGB; 1: grey; another number: the bands of the file as they are.
        window: Range of values of images of more than eight bits that is mapped to 0-255, see
            :func:`~mmmim.datasets.transforms.depth.to_eight_bits`.
        max_pixels: Most pixels that an image may have; None for :data:`LIMIT_VARIABLE`, else :data:`MAX_PIXELS`.
        formats: Further ones by Pillow's names.

    Raises:
        InputError: An option has no meaning.
    """

    channels: int = 3
    window: Any = None
    max_pixels: int | None = None
    formats: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.channels, int) or self.channels < 1:
            raise InputError(f'mmmim.LoadImage has no channels={self.channels!r}: give a number of 1 or more')
        check_window(self.window)
        if self.max_pixels is not None and (not isinstance(self.max_pixels, int) or self.max_pixels < 1):
            raise InputError(f'mmmim.LoadImage has no max_pixels={self.max_pixels!r}: give a number of pixels')
        if isinstance(self.formats, str):
            raise InputError(f'mmmim.LoadImage: formats is a list of names: [{self.formats!r}]')

    @property
    def limit(self) -> int:
        """Pixels of the largest image.

        Raises:
            InputError: The environment variable is no number.
        """
        if self.max_pixels is not None:
            return self.max_pixels
        text = os.environ.get(LIMIT_VARIABLE)
        if not text:
            return MAX_PIXELS
        if not text.isdecimal() or not int(text):
            raise InputError(f'{LIMIT_VARIABLE}={text}: give a number of pixels, such as {MAX_PIXELS}')
        return int(text)

    @property
    def all_formats(self) -> tuple[str, ...]:
        """Formats that are read, by Pillow's names."""
        return (*FORMATS, *self.formats)

    @property
    def max_bytes(self) -> int:
        """Of the largest file."""
        return max(_BYTES_PER_PIXEL * self.limit, 1 << 20)


def decode(data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """Pixels of the content of an image file; of an animation, the first frame.

    The size is compared with the limit before pixels are decoded. The EXIF orientation is applied, transparency is
    dropped.

    Args:
        data: Content of the file.
        name: Name of the file, for messages.
        options: How the image is read.

    Returns:
        ``[H, W, channels]``, RGB where these are three; uint8, or float32 for more bits of other numbers of channels
        than 1 and 3.

    Raises:
        UnreadableImageError: If the file cannot be decoded in full, is too large or of another format.
        InputError: If a library is missing that the channels need.
    """
    if data[:4] in _TIFF and options.channels not in (1, 3):
        return _decode_bands(data, name, options)
    try:
        with opened(data, options.all_formats) as image:
            _check_pixels(*image.size, options.limit)
            if options.channels in (1, 3):
                return _to_colours(image, data, name, options)
            image.load()
            bands = np.array(ImageOps.exif_transpose(image))
            if bands.ndim == 3 and bands.shape[2] == options.channels:
                return bands
            found = 1 if bands.ndim == 2 else bands.shape[2]
            reason = f'it has {found} channel(s), and mmmim.LoadImage was asked for {options.channels}'
    except UnidentifiedImageError:
        reason = _unknown(data, options)
    except PILLOW_ERRORS as error:
        reason = one_line(error)
    raise UnreadableImageError(f'cannot read image {printable(name)}: {reason}')


def decode_labels(data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """What an image file holds, without any conversion: of a palette the numbers of its colours.

    Returns:
        ``[H, W]``, or ``[H, W, C]`` of colours.

    Raises:
        UnreadableImageError: As :func:`decode`.
    """
    try:
        with opened(data, options.all_formats) as image:
            _check_pixels(*image.size, options.limit)
            return np.array(image)
    except UnidentifiedImageError:
        reason = _unknown(data, options)
    except PILLOW_ERRORS as error:
        reason = one_line(error)
    raise UnreadableImageError(f'cannot read image {printable(name)}: {reason}')


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return ' '.join(str(error).split()) or type(error).__name__


def too_large(width: int, height: int, limit: int) -> bool:
    """Whether an image has more pixels than the limit."""
    return width * height > limit


def _check_pixels(width: int, height: int, limit: int) -> None:
    if too_large(width, height, limit):
        raise ValueError(
            f'{width} x {height} pixels are more than the limit of {limit}; if such images are meant, raise '
            f'max_pixels of mmmim.LoadImage, or the environment variable {LIMIT_VARIABLE}'
        )


def _unknown(data: bytes, options: ReadOptions) -> str:
    if not data:
        return 'the file is empty'
    if data[:4] in _TIFF:
        return (
            'a TIFF file of a kind of pixels that Pillow does not know, such as many bands: '
            "mmmim.LoadImage(channels=N) reads N bands by the library tifffile, and so does dict(type='mmcv."
            "LoadImageFromFile', color_type='unchanged', imdecode_backend='tifffile')"
        )
    return (
        f'no image format that is read ({", ".join(options.all_formats)}), whatever its name says; convert it, or name '
        'its format in formats of mmmim.LoadImage'
    )


def _to_colours(image: Image.Image, data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """``[H, W, 3]`` or ``[H, W, 1]`` uint8."""
    if image.format == 'TIFF':
        _warn_of_bands(image, name)
    return pixels_of(image, name, options.channels, options.window, _deep_colours(image, data))


def pixels_of(
    image: Image.Image,
    name: str | os.PathLike,
    channels: int = 3,
    window: Any = None,
    deep: np.ndarray | None = None,
) -> np.ndarray:
    """Pixels of an image of Pillow, whatever its mode; its EXIF orientation is applied, in place.

    Args:
        image: The image of Pillow, which may have been opened from a file.
        name: What messages call it.
        channels: 3: RGB; 1: grey.
        window: Range of values of more than eight bits, see :class:`ReadOptions`.
        deep: Colours of the image in 16 bits, ``[H, W, 3]``, which Pillow does not keep; None where there are none.

    Returns:
        ``[H, W, channels]`` uint8.
    """
    if deep is None:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == 'F' or image.mode.startswith('I'):  # Pillow's own conversion would clip at 255, to white
            deep = np.asarray(image)
    if deep is not None:
        lost = what_is_lost(deep) if window is None and deep.dtype.kind != 'f' else None
        if lost:
            warn_once(
                'depth',
                f'{printable(name)} {lost}. Set window=(low, high), or window="minmax", of mmmim.LoadImage, or convert '
                'such files to 8 bit',
            )
        image = Image.fromarray(to_eight_bits(deep, window))
    if image.mode == 'P' and 'transparency' in image.info:  # Pillow warns otherwise
        image = image.convert('RGBA')
    if channels == 3:
        return np.array(image.convert('RGB'))
    image = image if image.mode in ('1', 'L', 'LA') else image.convert('RGB')
    return np.array(image.convert('L'))[..., None]


def _deep_colours(image: Image.Image, data: bytes) -> np.ndarray | None:
    """RGB ``[H, W, 3]`` uint16 of a file of 16 bits per colour, of which Pillow keeps the upper eight; else None."""
    if image.mode not in ('RGB', 'RGBA', 'RGBX'):
        return None
    if image.format == 'PNG':
        if data[24] != 16 or not _chunks_are_whole(data):  # bits, in the first chunk
            return None
    elif image.format != 'TIFF' or max(image.tag_v2.get(_BITS, (8,))) != 16:  # type: ignore[attr-defined]
        return None
    image.load()  # which finds damage
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), lambda x: x)
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.shape[:2] != image.size[::-1] or array.ndim != 3:
        return None
    return np.ascontiguousarray(turn(array[..., 2::-1]))


def _chunks_are_whole(data: bytes) -> bool:
    """Whether no chunk of a PNG file is longer than the file, for which OpenCV would ask for memory."""
    place = 8
    while place + 8 <= len(data):
        place += 12 + int.from_bytes(data[place : place + 4], 'big')
    return place <= len(data)


def _warn_of_bands(image: Image.Image, name: str | os.PathLike) -> None:
    """Say that bands are left out which are no transparency."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples, extra = tags.get(_SAMPLES, 1), tags.get(_EXTRA_SAMPLES, ())
    colours = {'L': 1, 'LA': 1, 'I;16': 1, 'P': 1, '1': 1}.get(image.mode, 4 if image.mode == 'CMYK' else 3)
    alpha = sum(kind in (1, 2) for kind in (extra if isinstance(extra, tuple) else (extra,)))
    if samples > colours + alpha:
        warn_once(
            'bands',
            f'{printable(name)} has {samples} bands, of which {colours} are used, and the others are not marked as '
            f'transparency: mmmim.LoadImage(channels={samples}) keeps them, for models of as many in_channels',
        )


def _decode_bands(data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """``[H, W, channels]`` of a TIFF file."""
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f'mmmim.LoadImage(channels={options.channels}) reads TIFF files by the library tifffile: pip install '
            'tifffile'
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            _check_pixels(page.imagewidth, page.imagelength * page.imagedepth, options.limit)
            if page.samplesperpixel > options.channels:
                raise ValueError(
                    f'it has {page.samplesperpixel} channel(s), and mmmim.LoadImage was asked for {options.channels}'
                )
            bands = page.asarray()
            planes = bands.ndim == 3 and page.planarconfig == 2
    except Exception as error:  # it does not say which ones
        raise UnreadableImageError(f'cannot read image {printable(name)}: {one_line(error)}') from None
    bands = bands[..., None] if bands.ndim == 2 else bands.transpose(1, 2, 0) if planes else bands
    if bands.ndim != 3 or bands.shape[2] != options.channels:
        raise UnreadableImageError(
            f'cannot read image {printable(name)}: it has {bands.shape[-1]} channel(s), and mmmim.LoadImage was asked '
            f'for {options.channels}'
        )
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(bands)
    return bands.astype(np.float32) if options.window is None else to_eight_bits(bands, options.window)
