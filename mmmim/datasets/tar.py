"""Tar archives from elsewhere, read from front to back; one that is cut short is noticed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

#: Writers pad archives with zeros to whole records, of 10 KiB as a rule. More than this are no padding.
_MAX_PADDING = 4 << 20
#: Bytes of headers that hold a long name or other properties of a member.
_MAX_HEADER = 1 << 20
_CHUNK = 1 << 16
_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_PACKED: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b'\x1f\x8b', gzip.open),
    (b'BZh', bz2.open),
    (b'\xfd7zXZ', lzma.open),
)


class _StrictTarInfo(tarfile.TarInfo):
    """Python takes a missing or damaged header, after the first, for the end; the end is a block of zeros."""

    @classmethod
    def fromtarfile(cls, tar: Any) -> Any:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            words = str(error).replace(' header', '') or 'damaged'
            raise tarfile.ReadError(
                f'it ends early: in the place of a header or of the blocks that end an archive there is {words} data'
            ) from None

    def _proc_member(self, tar: Any) -> Any:
        if self.type in _LONG_HEADERS and self.size > _MAX_HEADER:
            raise tarfile.ReadError(f'a header of {self.size} bytes')
        return super()._proc_member(tar)  # type: ignore[misc]


class _Raw(io.RawIOBase):
    """A stream that can only be read from."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer)) or b''
        buffer[: len(data)] = data
        return len(data)


def read_members(stream: Any, wanted: Callable[[str], bool], limit: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the regular members of an archive.

    Args:
        stream: The bytes of the archive, compressed by gzip, bzip2, xz or not at all; anything with a method ``read``.
        wanted: Whether the content of a member of that name is to be read; others come with an empty one.
        limit: Bytes of the largest member that is wanted.

    Raises:
        OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError: The archive is damaged: cut short, also between
            two members, followed by zeros or by other data, or a member is too large. The message says what.
    """
    buffered = io.BufferedReader(_Raw(stream), _CHUNK)
    start = buffered.peek(8)
    unpack = next((kind for magic, kind in _PACKED if start.startswith(magic)), None)
    source: Any = unpack(buffered) if unpack else buffered
    with tarfile.open(fileobj=source, mode='r|', tarinfo=_StrictTarInfo) as archive:
        for member in archive:
            if not member.isreg():
                continue
            content = b''
            if wanted(member.name):
                if member.size > limit:
                    raise tarfile.ReadError(f'a member of {member.size} bytes, more than {limit}')
                file = archive.extractfile(member)
                content = file.read() if file else b''
            yield member.name, content
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
        _check_end(archive.fileobj)


def ends_as_an_archive(file: Any) -> bool:
    """Whether the last bytes of an uncompressed archive, a file that can seek, are the zeros that end it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - tarfile.BLOCKSIZE))
    return size >= tarfile.BLOCKSIZE and not file.read(tarfile.BLOCKSIZE).strip(b'\0')


def _check_end(rest: Any) -> None:
    """Refuse what follows the end of an archive, unless it is padding."""
    padding = 0
    while data := rest.read(_CHUNK):
        padding += len(data)
        if data.strip(b'\0'):
            raise tarfile.ReadError('data follow the end of the archive: are these several archives in one file?')
        if padding > _MAX_PADDING:
            raise tarfile.ReadError('zeros follow the end of the archive: is this an unfinished download or copy?')
