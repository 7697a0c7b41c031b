"""Reading image files."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable

from .decoding import ReadOptions, UnreadableImageError, decode, one_line
from .jpeg import decode_jpeg

__all__ = ['LoadImage', 'UnreadableImageError', 'decode_image', 'read_file', 'read_image']

_DEFAULT = ReadOptions()


def read_image(path: str | os.PathLike, channels: int = 3, window: Any = None) -> np.ndarray:
    """Read an image file as colours, whatever its mode; of an animation, the first frame.

    The EXIF orientation is applied, transparency is dropped and 16-bit pixels keep their upper eight bits, with a
    warning where they are not used, unless a window says otherwise.

    Args:
        path: A regular file of a format of ``IMAGE_EXTENSIONS``, whatever its name says, of at most
            :data:`~mmmim.datasets.transforms.decoding.MAX_PIXELS` pixels (environment variable
            ``MMMIM_MAX_IMAGE_PIXELS``).
        channels: 3: RGB; 1: grey; another number: the bands of the file, see :class:`LoadImage`.
        window: What becomes of more than eight bits, see :class:`LoadImage`.

    Returns:
        Pixels ``[H, W, channels]``, uint8, or float32 where values of more bits are kept.

    Raises:
        UnreadableImageError: If the file cannot be decoded in full.
    """
    options = _DEFAULT if channels == 3 and window is None else ReadOptions(channels, window)
    return decode(read_file(path, options.max_bytes), path, options)


def decode_image(data: bytes, name: str | os.PathLike) -> np.ndarray:
    """What :func:`read_image` does, with the bytes of a file; ``name`` is for messages."""
    return decode(data, name, _DEFAULT)


def read_file(path: str | os.PathLike, limit: int | None = None) -> bytes:
    """The content of a regular file that holds an image.

    Args:
        path: The file. Anything else, such as a named pipe, is refused without opening it.
        limit: Most bytes that the file may have; None for the limit of images.

    Raises:
        UnreadableImageError: If it cannot be read.
    """
    try:
        return read_regular(path, _DEFAULT.max_bytes if limit is None else limit)
    except FileNotFoundError:
        reason = 'no such file'
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
    raise UnreadableImageError(f'cannot read image {printable(path)}: {reason}')


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Decode an image as :func:`read_image` does: ``results['img_bytes']``, or the file ``results['img_path']``.

    An image that is in memory already, as those of CIFAR, stays as it is, so that one pipeline serves every data set.

    Ordinary JPEG files are decoded by OpenCV, or by simplejpeg (``pip install "mmmim[fast]"``) where it is installed,
    to the pixels of Pillow: see :func:`~mmmim.datasets.transforms.jpeg.decode_jpeg`.

    Required Keys:

    - img_path
    - img (optional): pixels ``[H, W, 3]``, BGR.
    - img_bytes (optional, removed): the encoded image; ``img_path`` is then its name in messages.

    Added Keys:

    - img: BGR, ``[H, W, 3]`` uint8, the channel order that mmcv's and mmpretrain's transforms expect; the data
      preprocessor turns it into RGB. Of other numbers of channels, ``[H, W, channels]`` in the order of the file.
    - img_shape, ori_shape: ``(H, W)``.

    Args:
        decoder: ``auto``, or ``pillow`` to decode everything by Pillow.
        channels: 3; or 1 for grey (colours by their brightness); or as many as the files have, such as 5: then bands
            are not interpreted: those of a page of a TIFF file (by the library tifffile), its pages, or an array
            ``.npy``, ``[H, W, C]`` or ``[C, H, W]``. Values of more than eight bits become float32 unless a window is
            given.
        window: What becomes of pixels of more than eight bits. 'keep': they stay what they are, as float32, for a model
            of their mean and standard deviation. Otherwise they become eight: ``(low, high)``, which become black and
            white in all images alike; ``'minmax'`` or ``'percentile'`` (0.5 and 99.5) of each image; None: the upper
            eight of 16 bits, with a warning where they are hardly used. Images of eight bits stay as they are.
        max_pixels: Images of more are unreadable, before they are decoded; None: 80 million, or what the environment
            variable ``MMMIM_MAX_IMAGE_PIXELS`` says.
        formats: Further formats by Pillow's names, beside those of ``IMAGE_EXTENSIONS``.

    Raises:
        InputError: If an option has no meaning.
    """

    def __init__(
        self,
        decoder: str = 'auto',
        channels: int = 3,
        window: Any = None,
        max_pixels: int | None = None,
        formats: Sequence[str] = (),
    ) -> None:
        if decoder not in ('auto', 'pillow'):
            raise InputError(f'mmmim.LoadImage has no decoder {decoder!r}: give auto or pillow')
        self.decoder = decoder
        self.options = ReadOptions(channels, window, max_pixels, formats)

    def transform(self, results: dict) -> dict:
        """Add the image to ``results``.

        Raises:
            UnreadableImageError: If the image cannot be decoded in full.
            InputError: If the image is in memory and has other channels than are asked for.
        """
        path, options = results['img_path'], self.options
        if 'img' in results:
            return self._in_memory(results)
        data = results.pop('img_bytes', None)
        if data is None:
            data = read_file(path, options.max_bytes)
        image = None
        if self.decoder == 'auto' and options.channels == 3:
            image = decode_jpeg(data, options.limit)
        if image is None:
            image = decode(data, path, options)
            if options.channels == 3:
                image = np.ascontiguousarray(image[..., ::-1])
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _in_memory(self, results: dict) -> dict:
        channels = results['img'].shape[2]
        if channels != self.options.channels:
            raise InputError(
                f'mmmim.LoadImage(channels={self.options.channels}): the images of this data set are in memory and '
                f'have {channels} channels'
            )
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results
