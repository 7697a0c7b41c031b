"""JPEG files by libraries that are faster than Pillow, where they do what Pillow does."""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags

from .pillow import PILLOW_ERRORS, opened

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: Flags of OpenCV by the factor that sides are divided by in the inverse DCT.
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
#: The factors of :func:`decode_jpeg`, from the largest one.
FACTORS = tuple(sorted(_FLAGS, reverse=True))
_END = b'\xff\xd9'
#: Markers that start a frame of Huffman-coded samples of eight bits: baseline, extended, progressive.
_FRAMES = (0xC0, 0xC1, 0xC2)


class JPEGHeader(NamedTuple):
    """What the segments before the pixels say.

    Attributes:
        height: Rows of the stored image, before any turn by EXIF.
        width: Columns of the stored image.
        several_scans: Whether the pixels come in several passes, as those of progressive files do.
        scan: Where the first of them starts in the file.
    """

    height: int
    width: int
    several_scans: bool
    scan: int


def jpeg_header(data: bytes, max_pixels: int | None = None) -> JPEGHeader | None:
    """The header of an ordinary JPEG file: of eight bits, grey or of three colours, and not to be turned.

    Args:
        data: Content of any file.
        max_pixels: Larger images are not ordinary; None for no limit.

    Returns:
        None where Pillow has to look at the file, which also finds the words for what is broken.
    """
    if not data.startswith(b'\xff\xd8\xff'):
        return None
    place, frame = 2, None
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], 'big')
        if marker == 0xDA:
            break
        if length < 2 or marker < 0xC0 or 0xD0 <= marker <= 0xD9:
            return None
        if marker in _FRAMES:
            frame = marker, data[place + 4 : place + 10]
        place += 2 + length
    else:
        return None
    if frame is None:
        return None
    (kind, size), height, width = frame, int.from_bytes(frame[1][1:3], 'big'), int.from_bytes(frame[1][3:5], 'big')
    ordinary = size[0] == 8 and size[5] in (1, 3) and 0 < height * width <= (max_pixels or np.inf)
    if not ordinary or _is_turned(data, place):
        return None
    return JPEGHeader(height, width, kind == 0xC2 or data[place + 4] < size[5], place)


def decode_jpeg(
    data: bytes, max_pixels: int | None = None, factor: int = 1, header: JPEGHeader | None = None
) -> np.ndarray | None:
    """Decode a JPEG file that :func:`jpeg_header` finds ordinary, and that is complete.

    The pixels are those of Pillow, because all use libjpeg-turbo with the same settings: exact inverse DCT and smooth
    chroma. By simplejpeg where it is installed, which is a little faster, else by OpenCV.

    Args:
        data: Content of any file.
        max_pixels: Larger images are left to Pillow's reader, which refuses them; None for no limit.
        factor: 1; or one of :data:`FACTORS`, by which sides are divided, in the inverse DCT: the pixels are those of
            Pillow's ``Image.draft``, and no filter has seen all the pixels of the file.
        header: What :func:`jpeg_header` gave for this file, which is otherwise read anew.

    Returns:
        BGR, ``[ceil(H / factor), ceil(W / factor), 3]`` uint8, or None where Pillow has to look at it.
    """
    header = header or jpeg_header(data, max_pixels)
    if header is None:
        return None
    if simplejpeg is not None and factor == 1:
        try:
            return simplejpeg.decode_jpeg(data, 'BGR')
        except ValueError:  # damaged, or a kind of JPEG that it does not know
            return None
    if not _looks_whole(data, header):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    expected = (-(-header.height // factor), -(-header.width // factor), 3)
    return image if image is not None and image.shape == expected else None


def _looks_whole(data: bytes, header: JPEGHeader) -> bool:
    """Whether no marker says that a file is damaged: OpenCV fills what is missing behind one, and Pillow refuses it."""
    if not data.endswith(_END):
        return False
    if header.several_scans:  # which are all read before the first pixels are, so that errors are met in time
        return True
    scan = np.frombuffer(data, np.uint8)[header.scan + 2 : -len(_END)]
    after = scan[np.flatnonzero(scan[:-1] == 0xFF) + 1]
    return not np.any(after[(after & 0xF8) != 0xD0]) and scan[-1] != 0xFF  # 0: a byte of data; 0xD0 to 0xD7: restarts


def _is_turned(data: bytes, scan: int) -> bool:
    """Whether EXIF or XMP, before the pixels that start at ``scan``, may ask for another orientation."""
    header = data[:scan]
    # Searching is far cheaper than parsing, and many files have neither.
    if b'Exif\0\0' not in header and b'Orientation' not in header:
        return False
    try:
        with opened(data, ('JPEG',)) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except PILLOW_ERRORS:
        return True
