"""JPEG files by simplejpeg, where it is installed and does what Pillow does."""

from functools import cache

import numpy as np
from mmengine.logging import print_log
from PIL import ExifTags
from torch.utils.data import get_worker_info

from .pillow import PILLOW_ERRORS, opened

try:
    import simplejpeg
except ImportError:
    simplejpeg = None


def decode_jpeg(data: bytes, max_pixels: int | None = None) -> np.ndarray | None:
    """Decode an ordinary JPEG file: complete, grey or colour, and not to be turned.

    The pixels are those of Pillow, because both use libjpeg-turbo with the same settings: exact inverse DCT and smooth
    chroma. Whatever is not ordinary is left to Pillow, which also finds the words for what is broken.

    Args:
        data: Content of any file.
        max_pixels: Larger images are left to Pillow's reader, which refuses them; None for no limit.

    Returns:
        BGR, ``[H, W, 3]`` uint8, or None where Pillow has to look at it.
    """
    if not data.startswith(b'\xff\xd8\xff'):
        return None
    if simplejpeg is None:
        _recommend()
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ('CMYK', 'YCCK') or height * width > (max_pixels or np.inf) or _is_turned(data):
            return None
        return simplejpeg.decode_jpeg(data, 'BGR')
    except ValueError:  # damaged, or a kind of JPEG that it does not know
        return None


def _is_turned(data: bytes) -> bool:
    """Whether EXIF or XMP may ask for another orientation."""
    header = data[: _scan_start(data)]
    # Searching is far cheaper than parsing, and many files have neither.
    if b'Exif\0\0' not in header and b'Orientation' not in header:
        return False
    try:
        with opened(data, ('JPEG',)) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except PILLOW_ERRORS:
        return True


def _scan_start(data: bytes) -> int:
    """Where the segments of the header end and the pixels begin; the end of the data where that is not clear."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xDA:
            return place
        place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    return len(data)


@cache
def _recommend() -> None:
    worker = get_worker_info()
    if worker is None or worker.id == 0:
        print_log(
            'JPEG files are decoded faster, to the same pixels, with pip install "mmmim[fast]".', logger='current'
        )
