"""Files that hold images, and files that do not, made byte by byte."""

import contextlib
import signal
import struct
import zlib

import numpy as np


@contextlib.contextmanager
def alarm(seconds=5):
    """Fail what hangs."""

    def ring(*_):
        raise AssertionError(f'not finished after {seconds} s')

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def png_chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def bomb_png(side, extra=b''):
    """A black PNG file of side x side pixels, a thousandth of their size."""
    packer, row = zlib.compressobj(1), bytes(1 + 3 * side)
    data = b''.join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
    signature = b'\x89PNG\r\n\x1a\n'
    return signature + png_chunk(b'IHDR', header) + extra + png_chunk(b'IDAT', data) + png_chunk(b'IEND', b'')


def tiff(pixels, extra=None):
    """An uncompressed TIFF file of ``[H, W, C]``, whose further bands are of the kinds ``extra``."""
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder('<')).tobytes()
    bits, kind = 8 * pixels.dtype.itemsize, {'u': 1, 'i': 2, 'f': 3}[pixels.dtype.kind]
    longs = {256: width, 257: height, 278: height, 279: len(data), 273: None}
    shorts = {258: [bits] * bands, 259: [1], 262: [2 if bands >= 3 else 1], 277: [bands], 339: [kind] * bands}
    if extra is not None:
        shorts[338] = extra
    base, tail, entries = 8 + 2 + 12 * (len(longs) + len(shorts)) + 4, b'', {}
    for tag, values in shorts.items():
        packed = struct.pack(f'<{len(values)}H', *values)
        if len(packed) > 4:
            packed, tail = struct.pack('<I', base + len(tail)), tail + packed
        entries[tag] = struct.pack('<HHI', tag, 3, len(values)) + packed.ljust(4, b'\0')
    for tag, value in longs.items():
        entries[tag] = struct.pack('<HHII', tag, 4, 1, base + len(tail) if value is None else value)
    directory = b''.join(entries[tag] for tag in sorted(entries))
    return b'II*\0' + struct.pack('<IH', 8, len(entries)) + directory + bytes(4) + tail + data
