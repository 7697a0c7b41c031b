"""What a zip file of ``torch.save`` says of its tensors, read without making any of what it names."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from mmmim.utils import InputError
from mmmim.utils.names import printable

#: What messages about damaged files end with.
AGAIN = 'Use an earlier checkpoint, or copy or download the file again.'


class _Inert:
    """What stands for everything that a pickle names: it takes whatever is done to it, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return self

    append = extend = add = __setitem__ = __setstate__ = __call__


class _Storages(pickle.Unpickler):
    """Goes through a pickle and keeps the number of bytes that it expects of each member, by the name of the member."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.expected: list[tuple[str, int]] = []

    def find_class(self, module: str, name: str) -> type[_Inert]:
        """A class that is named as what is asked for; nothing is imported."""
        return type(name, (_Inert,), {'__module__': module})

    def persistent_load(self, pid: Any) -> _Inert:
        """Note what torch would make a storage of: ``('storage', type, key, location, number of elements)``."""
        _, kind, key, _, number = pid
        dtype = torch.uint8 if kind.__name__ == 'UntypedStorage' else vars(torch)[kind.__name__].dtype
        self.expected.append((f'data/{key}', number * dtype.itemsize))
        return _Inert()


def check_sizes(archive: zipfile.ZipFile, file: Path) -> None:
    """Compare the sizes of tensors with those of the members of the archive that hold their values.

    torch compares them too, but not in all versions: 2.8 takes the memory behind a member that is too short for values
    of the tensor, shows what is there, and writes to it when the tensor is changed.

    Args:
        archive: A zip file of ``torch.save``.
        file: Where the archive was opened, which messages name.

    Raises:
        InputError: A size does not fit.
        pickle.UnpicklingError: What the archive holds cannot be followed.
    """
    for pickled in [name for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl']:
        storages = _Storages(archive.read(pickled))
        try:
            storages.load()
        except MemoryError:
            raise
        except Exception as error:  # what torch might read in another way is not left to it
            raise pickle.UnpicklingError(f'{printable(pickled)}: {error}') from error
        folder = pickled.removesuffix('data.pkl')
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        for name, size in storages.expected:
            found = sizes.get(folder + name)
            if found != size:
                holds = 'is not there' if found is None else f'holds {found} bytes'
                raise InputError(
                    f'{file} is damaged: a tensor in it takes {size} bytes of {printable(folder + name)}, which '
                    f'{holds}. {AGAIN}'
                )
