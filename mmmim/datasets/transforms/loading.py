"""Reading image files."""

import io
import os

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError

from .jpeg import PILLOW_ERRORS, decode_jpeg


class UnreadableImageError(OSError):
    """An image file that is missing, empty, truncated or no image.

    Args:
        message: The path and the reason, in one line.
    """


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as colours, whatever its mode; of an animation, the first frame.

    The EXIF orientation is applied, transparency is dropped and 16-bit pixels keep their upper eight bits.

    Args:
        path: Any format that Pillow reads.

    Returns:
        RGB pixels, ``[H, W, 3]`` uint8.

    Raises:
        UnreadableImageError: If the file cannot be decoded in full.
    """
    return decode_image(_read_file(path), path)


def decode_image(data: bytes, name: str | os.PathLike) -> np.ndarray:
    """What :func:`read_image` does, with the bytes of a file; ``name`` is for messages."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(_to_rgb(image))
    except UnidentifiedImageError:
        reason = 'no image format that Pillow knows' if data else 'the file is empty'
    except PILLOW_ERRORS as error:
        reason = _one_line(error)
    raise UnreadableImageError(f'cannot read image {name}: {reason}')


def _read_file(path: str | os.PathLike) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read()
    except FileNotFoundError:
        reason = 'no such file'
    except OSError as error:
        reason = _one_line(error)
    raise UnreadableImageError(f'cannot read image {path}: {reason}')


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'F':
        raise ValueError('floating-point pixels have no defined white; convert the file to 8 or 16 bit')
    if image.mode.startswith('I'):  # 16 bit: Pillow's own conversion would clip everything above 255 to white
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert('RGB')
    if image.mode == 'P' and 'transparency' in image.info:  # Pillow warns otherwise
        image = image.convert('RGBA')
    return image.convert('RGB')


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Decode an image as :func:`read_image` does: ``results['img_bytes']``, or the file ``results['img_path']``.

    Ordinary JPEG files are decoded by simplejpeg where it is installed (``pip install "mmmim[fast]"``), to the same
    pixels: see :func:`~mmmim.datasets.transforms.jpeg.decode_jpeg`.

    Required Keys:

    - img_path
    - img_bytes (optional, removed): the encoded image; ``img_path`` is then its name in messages.

    Added Keys:

    - img: BGR, ``[H, W, 3]`` uint8, the channel order that mmcv's and mmpretrain's transforms expect; the data
      preprocessor turns it into RGB.
    - img_shape, ori_shape: ``(H, W)``.

    Args:
        decoder: ``auto``, or ``pillow`` to decode everything by Pillow.
    """

    def __init__(self, decoder: str = 'auto') -> None:
        if decoder not in ('auto', 'pillow'):
            raise InputError(f'mmmim.LoadImage has no decoder {decoder!r}: give auto or pillow')
        self.decoder = decoder

    def transform(self, results: dict) -> dict:
        """Add the image to ``results``.

        Raises:
            UnreadableImageError: If the image cannot be decoded in full.
        """
        path = results['img_path']
        data = results.pop('img_bytes', None)
        if data is None:
            data = _read_file(path)
        image = decode_jpeg(data) if self.decoder == 'auto' else None
        if image is None:
            image = np.ascontiguousarray(decode_image(data, path)[..., ::-1])
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results
