"""Pillow, for files from elsewhere."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

#: Pillow reports broken files with all of these.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ArithmeticError,
    AttributeError,
    KeyError,
    MemoryError,
    RuntimeError,
    TypeError,
)


@contextmanager
def opened(data: bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """An image of one of these formats, whose header alone has been read.

    Pillow's own limit of pixels, which has no setting per call, is off meanwhile: who decodes compares the size.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit
