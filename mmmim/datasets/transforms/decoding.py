"""From the bytes of an image file to pixels: what is read, up to which size, and as what."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmmim.utils import InputError
from mmmim.utils.names import printable

from .bands import EXTRA_SAMPLES, NUMPY, SAMPLES, TIFF, as_floats, bands_of, check_pixels, deep_colours
from .depth import KEEP, check_window, to_eight_bits, warn_once, what_is_lost
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
            :func:`~mmmim.datasets.transforms.depth.to_eight_bits`; 'keep': they stay as they are, in float32.
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
    def keeps_values(self) -> bool:
        """Whether the bands of a file are not interpreted as colours of eight bits."""
        return self.window == KEEP or self.channels not in (1, 3)

    @property
    def all_formats(self) -> tuple[str, ...]:
        """Formats that are read, by Pillow's names."""
        return (*FORMATS, *self.formats)

    @property
    def max_bytes(self) -> int:
        """Of the largest file."""
        return max(max(_BYTES_PER_PIXEL, 4 * self.channels) * self.limit, 1 << 20)


def decode(data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """Pixels of the content of an image file; of an animation, the first frame.

    The size is compared with the limit before pixels are decoded. The EXIF orientation is applied, transparency is
    dropped.

    Args:
        data: Content of the file.
        name: Name of the file, for messages.
        options: How the image is read.

    Returns:
        ``[H, W, channels]``, RGB where these are three; uint8, or float32 for values of more bits that are kept.

    Raises:
        UnreadableImageError: If the file cannot be decoded in full, is too large or of another format.
        InputError: If a library is missing that the channels need.
    """
    try:
        if options.keeps_values or data[: len(NUMPY)] == NUMPY:
            bands = bands_of(data, options.channels, options.limit, options.all_formats)
            if bands is not None:
                return _in_depth(bands, name, options)
        with opened(data, options.all_formats) as image:
            check_pixels(*image.size, options.limit)
            return _to_colours(image, data, name, options)
    except InputError:
        raise
    except UnidentifiedImageError:
        reason = _unknown(data, options)
    except PILLOW_ERRORS as error:
        reason = one_line(error)
    raise UnreadableImageError(f'cannot read image {printable(name)}: {reason}')


def _in_depth(bands: np.ndarray, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """Values of a file as eight bits, or as float32 where they are kept."""
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(bands)
    if options.keeps_values and options.window in (None, KEEP):
        return as_floats(bands)
    _warn_of_depth(bands, name, options)
    return to_eight_bits(bands, options.window)


def _warn_of_depth(values: np.ndarray, name: str | os.PathLike, options: ReadOptions) -> None:
    """Say that the upper eight bits hold little, where nothing says what black and white are."""
    if options.window is None and values.dtype.kind != 'f' and (lost := what_is_lost(values)):
        warn_once(
            'depth',
            f'{printable(name)} {lost}. Set window=(low, high), or window="minmax", of mmmim.LoadImage, or convert '
            'such files to 8 bit; window="keep" keeps all bits, for models of their mean and std',
        )


def decode_labels(data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """What an image file holds, without any conversion: of a palette the numbers of its colours.

    Returns:
        ``[H, W]``, or ``[H, W, C]`` of colours.

    Raises:
        UnreadableImageError: As :func:`decode`.
    """
    try:
        with opened(data, options.all_formats) as image:
            check_pixels(*image.size, options.limit)
            return np.array(image)
    except UnidentifiedImageError:
        reason = _unknown(data, options)
    except PILLOW_ERRORS as error:
        reason = one_line(error)
    raise UnreadableImageError(f'cannot read image {printable(name)}: {reason}')


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return ' '.join(str(error).split()) or type(error).__name__


def _unknown(data: bytes, options: ReadOptions) -> str:
    if not data:
        return 'the file is empty'
    if data[:4] in TIFF:
        return (
            'a TIFF file of a kind of pixels that Pillow does not know, such as many bands: '
            'mmmim.LoadImage(channels=N) reads N bands by the library tifffile (pip install "mmmim[tiff]"), and so do '
            'configs with images=dict(channels=N, mean=..., std=...), of which mmmim stats FOLDER prints the lines'
        )
    return (
        f'no image format that is read ({", ".join(options.all_formats)}), whatever its name says; convert it, or name '
        'its format in formats of mmmim.LoadImage'
    )


def _to_colours(image: Image.Image, data: bytes, name: str | os.PathLike, options: ReadOptions) -> np.ndarray:
    """``[H, W, 3]`` or ``[H, W, 1]`` uint8."""
    if image.format == 'TIFF':
        _warn_of_bands(image, name)
    deep = deep_colours(image, data)
    if deep is not None:
        deep = deep[..., [0, 0, 0] if deep.shape[2] == 2 else [0, 1, 2]]
    return pixels_of(image, name, options, deep)


def pixels_of(
    image: Image.Image, name: str | os.PathLike, options: ReadOptions, deep: np.ndarray | None = None
) -> np.ndarray:
    """Pixels of an image of Pillow, whatever its mode; its EXIF orientation is applied, in place.

    Args:
        image: The image of Pillow, which may have been opened from a file.
        name: What messages call it.
        options: How it is read: 1 or 3 channels, of eight bits.
        deep: Colours of the image in 16 bits, ``[H, W, 3]``, which Pillow does not keep; None where there are none.

    Returns:
        ``[H, W, channels]`` uint8.
    """
    if deep is None:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == 'F' or image.mode.startswith('I'):  # Pillow's own conversion would clip at 255, to white
            deep = np.asarray(image)
    if deep is not None:
        _warn_of_depth(deep, name, options)
        image = Image.fromarray(to_eight_bits(deep, options.window))
    if image.mode == 'P' and 'transparency' in image.info:  # Pillow warns otherwise
        image = image.convert('RGBA')
    if options.channels == 3:
        return np.array(image.convert('RGB'))
    image = image if image.mode in ('1', 'L', 'LA') else image.convert('RGB')
    return np.array(image.convert('L'))[..., None]


def _warn_of_bands(image: Image.Image, name: str | os.PathLike) -> None:
    """Say that bands are left out which are no transparency."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples, extra = tags.get(SAMPLES, 1), tags.get(EXTRA_SAMPLES, ())
    colours = {'L': 1, 'LA': 1, 'I;16': 1, 'P': 1, '1': 1}.get(image.mode, 4 if image.mode == 'CMYK' else 3)
    alpha = sum(kind in (1, 2) for kind in (extra if isinstance(extra, tuple) else (extra,)))
    if samples > colours + alpha:
        warn_once(
            'bands',
            f'{printable(name)} has {samples} bands, of which {colours} are used, and the others are not marked as '
            f'transparency: mmmim.LoadImage(channels={samples}) keeps them, for models of as many in_channels',
        )
