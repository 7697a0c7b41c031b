"""Checkpoint files mapped into memory: of a whole file, only the part that is used is read.

A file of a training is three or four times as large as the encoder in it: a teacher beside the student, and the moments
of the optimiser. Here the plain data of a file are read and checked at once, and its tensors are mapped; those that are
used are compared with their checksums, once (:meth:`MappedFile.use`). Everything else is never touched.
"""

from __future__ import annotations

import copy
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .reader import (
    check_archive,
    damage_explained,
    damaged,
    is_trusted,
    load_checkpoint_file,
    local_file,
    plain_content,
)
from .safetensors_file import is_safetensors

_CHUNK = 1 << 24
#: Files that were read inside :func:`reading_once`, by what identifies their content; None outside of it.
_READ: ContextVar[dict[tuple, MappedFile] | None] = ContextVar('read', default=None)


class MappedFile:
    """A checkpoint file whose tensors lie in memory that the operating system fills when they are used.

    Files without checksums (of torch before 1.6) are read as a whole, and so are those that torch has not written.

    Args:
        file: A local file.
        trust: Whether it may hold pickled Python objects.

    Attributes:
        notes: What users of the file have found out about it, by names of their own.

    Raises:
        InputError: As :func:`mmmim.checkpoints.load_checkpoint_file`, but for the checksums of tensors.
    """

    def __init__(self, file: Path, trust: bool) -> None:
        self.file = file
        self.notes: dict[Any, Any] = {}
        self._unread: dict[int, zipfile.ZipInfo] = {}
        mapped = None
        with damage_explained(file):
            members = [] if is_safetensors(file) else check_archive(file, whole=False)
        with suppress(Exception):  # the reader of whole files says what is wrong, or does without a map
            mapped = self._map(members, trust) if members and _is_native(file) else None
        self._content = (
            load_checkpoint_file(file, trust=trust) if mapped is None else plain_content(mapped, file, trust)
        )

    def content(self) -> dict[str, Any]:
        """What the file holds, in dicts of the caller's own down to the names of weights.

        Nothing deeper may be changed, neither plain data nor tensors, and the values of tensors are for those who have
        called :meth:`use`.
        """
        return {key: copy.copy(value) if isinstance(value, Mapping) else value for key, value in self._content.items()}

    def use(self, values: Iterable[Any]) -> None:
        """Compare the memory of tensors with the checksums of the file, each once.

        Args:
            values: Tensors of :meth:`content`; other things are left alone.

        Raises:
            InputError: Some do not fit.
        """
        for value in values:
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
                continue
            storage = value.untyped_storage()
            member = self._unread.get(storage.data_ptr())
            if member is None:
                continue
            if _checksum(storage) != member.CRC:
                raise damaged(self.file, member.filename)
            del self._unread[storage.data_ptr()]

    def _map(self, members: list[zipfile.ZipInfo], trust: bool) -> Any:
        """The content, mapped; None where it is not sure which member holds which tensor."""
        storages: dict[int, int] = {}

        def see(storage: Any, location: str) -> Any:
            if storage.nbytes():
                storages[storage.data_ptr()] = storage.nbytes()
            return storage

        content = torch.load(self.file, map_location=see, weights_only=not trust, mmap=True)
        # torch does not say where in the file a tensor lies. All of them are parts of one map, whose first tensor is
        # the first member, if every member is used and every distance and size is the same.
        offsets = {_offset(self.file, member): member for member in members if member.file_size}
        if len(storages) != len(offsets):
            return None
        start = min(storages, default=0) - min(offsets, default=0)
        if {(start + offset, member.file_size) for offset, member in offsets.items()} != set(storages.items()):
            return None
        self._unread = {start + offset: member for offset, member in offsets.items()}
        return content


@contextmanager
def reading_once() -> Iterator[None]:
    """Read every file once inside: whoever reads it again gets what was read, as long as the file is the same."""
    token = _READ.set({})
    try:
        yield
    finally:
        forget()
        _READ.reset(token)


def forget() -> None:
    """Let go of the files that were read inside :func:`reading_once`, which would keep deleted ones on the disk."""
    if (read := _READ.get()) is not None:
        read.clear()


def map_checkpoint_file(path: str | os.PathLike, trust: bool | None = None) -> MappedFile:
    """Read a local checkpoint file of which only a part is used.

    Args:
        path: A local file. Nothing is downloaded.
        trust: Whether to read pickled Python objects too, which can run any code; None for what
            :func:`mmmim.checkpoints.reader.trusting` says, by default no.

    Raises:
        InputError: As :class:`MappedFile`.
    """
    file, trust = local_file(path), is_trusted(trust)
    read = _READ.get()
    if read is None:
        return MappedFile(file, trust)
    state = file.stat()
    key = (os.fspath(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, trust)
    if key not in read:
        read[key] = MappedFile(file, trust)
    return read[key]


def _is_native(file: Path) -> bool:
    """Whether numbers lie in a file as this machine has them; otherwise torch changes them when it reads."""
    with zipfile.ZipFile(file) as archive:
        orders = [archive.read(name) for name in archive.namelist() if name.rpartition('/')[2] == 'byteorder']
    return sys.byteorder == 'little' if not orders else orders[0].decode(errors='replace') == sys.byteorder


def _offset(file: Path, member: zipfile.ZipInfo) -> int:
    """Where in a file the values of a member begin: behind a header whose length only itself tells."""
    with open(file, 'rb') as stream:
        stream.seek(member.header_offset + 26)
        name, extra = struct.unpack('<HH', stream.read(4))
    return member.header_offset + 30 + name + extra


def _checksum(storage: Any) -> int:
    memory = memoryview(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())
    value = 0
    for start in range(0, len(memory), _CHUNK):
        value = zlib.crc32(memory[start : start + _CHUNK], value)
    return value
