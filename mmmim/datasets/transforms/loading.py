"""Reading image files."""

import os
import struct
import zlib

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError

from mmmim.registry import TRANSFORMS

# Pillow's decoders report broken files with all of these.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


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
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(_to_rgb(image))
    except UnidentifiedImageError:
        reason = 'the file is empty' if os.path.getsize(path) == 0 else 'no image format that Pillow knows'
    except FileNotFoundError:
        reason = 'no such file'
    except _DECODE_ERRORS as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
    raise UnreadableImageError(f'cannot read image {path}: {reason}')


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
    """Read ``results['img_path']`` with :func:`read_image`.

    Required Keys:

    - img_path

    Added Keys:

    - img: BGR, ``[H, W, 3]`` uint8, the channel order that mmcv's and mmpretrain's transforms expect; the data
      preprocessor turns it into RGB.
    - img_shape, ori_shape: ``(H, W)``.
    """

    def transform(self, results: dict) -> dict:
        """Add the image to ``results``.

        Raises:
            UnreadableImageError: If the file cannot be decoded in full.
        """
        image = read_image(results['img_path'])
        results['img'] = np.ascontiguousarray(image[..., ::-1])
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results
