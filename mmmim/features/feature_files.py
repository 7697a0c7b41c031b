"""Files of features: rows, the paths of their images, and facts, in formats that other programs read.

Rows come in chunks out of a mapped file, so that they are never all in memory. Legend: n images.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically

#: Bytes of the rows that are in memory at a time.
CHUNK_BYTES = 1 << 26
#: Key of the facts in the metadata of a file of parquet.
_KEY = b'mmmim'


@dataclass(frozen=True)
class Rows:
    """What a file holds.

    Attributes:
        stored: Features of all images that were asked for, ``[m, ...]``, most often mapped.
        kept: Places of the n images of the file among them.
        paths: Paths of the n images.
        facts: Where the features come from, as JSON data.
    """

    stored: np.ndarray
    kept: np.ndarray
    paths: list[str]
    facts: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features in the file, ``[n, ...]``."""
        return len(self.kept), *self.stored.shape[1:]

    @property
    def chunk(self) -> int:
        """Rows that are in memory at a time."""
        return max(1, CHUNK_BYTES // max(1, self.stored[:1].nbytes))

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Place of the first row, and rows, in order."""
        for start in range(0, len(self.kept), self.chunk):
            yield start, np.ascontiguousarray(self.stored[self.kept[start : start + self.chunk]])


class Format(NamedTuple):
    """A kind of files.

    Attributes:
        words: What is in it.
        write: Writes a file.
        facts: Reads the facts of a file, and fails in any way where it has none.
        library: What must be installed; None for nothing.
    """

    words: str
    write: Callable[[Path, Rows], None]
    facts: Callable[[Path], Any]
    library: str | None = None


def format_of(path: Path) -> Format:
    """The format that the ending of a file names.

    Raises:
        InputError: There is no such format, or its library is missing.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputError(f'{path}: the ending says how features are written, give one of {", ".join(FORMATS)}.')
    if found.library is not None and find_spec(found.library) is None:
        raise InputError(
            f'{path}: files {path.suffix} need the library {found.library}: pip install "mmmim[extract]", or give '
            'another ending, such as .npz.'
        )
    return found


def read_facts(path: Path) -> dict[str, Any] | None:
    """The facts in a file of features; None where it is none, or damaged."""
    try:
        found = format_of(path).facts(path)
        facts = json.loads(found)
    except InputError:
        raise
    except Exception:  # of four libraries, which fail in many ways
        return None
    return facts if isinstance(facts, dict) else None


def _write_array(file: IO[bytes], rows: Rows) -> None:
    """Features as a file ``.npy``."""
    header = {'descr': np.lib.format.dtype_to_descr(rows.stored.dtype), 'fortran_order': False, 'shape': rows.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for _, part in rows.chunks():
        file.write(part.tobytes())


def _write_npz(path: Path, rows: Rows) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        with archive.open('features.npy', 'w', force_zip64=True) as file:
            _write_array(file, rows)
        for name, array in (('paths', np.array(rows.paths)), ('facts', np.array(json.dumps(rows.facts)))):
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _npz_facts(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        return file['facts'].item()


def beside(path: Path) -> Path:
    """The file of paths and facts beside a file ``.npy``."""
    return path.with_suffix('.json')


def _write_npy(path: Path, rows: Rows) -> None:
    write_text_atomically(json.dumps({**rows.facts, 'paths': rows.paths}, indent=1) + '\n', beside(path))
    with open(path, 'wb') as file:
        _write_array(file, rows)


def _npy_facts(path: Path) -> Any:
    return beside(path).read_text(encoding='utf-8')


def _write_h5(path: Path, rows: Rows) -> None:
    import h5py

    with h5py.File(path, 'w') as file:
        features = file.create_dataset('features', rows.shape, rows.stored.dtype)
        for start, part in rows.chunks():
            features[start : start + len(part)] = part
        file.create_dataset('paths', data=rows.paths, dtype=h5py.string_dtype())
        file.create_dataset('facts', data=json.dumps(rows.facts), dtype=h5py.string_dtype())


def _h5_facts(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return file['facts'][()]


def _write_parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = int(np.prod(rows.shape[1:]))
    kind = pa.list_(pa.from_numpy_dtype(rows.stored.dtype), width)
    schema = pa.schema([('paths', pa.string()), ('features', kind)], metadata={_KEY: json.dumps(rows.facts)})
    with pq.ParquetWriter(path, schema) as file:
        for start, part in rows.chunks():
            features = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), width)
            names = pa.array(rows.paths[start : start + len(part)], pa.string())
            file.write_table(pa.Table.from_arrays([names, features], schema=schema))


def _parquet_facts(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(path).metadata[_KEY]


#: By the ending of the file.
FORMATS = {
    '.npz': Format('arrays features, paths and facts', _write_npz, _npz_facts),
    '.npy': Format('features; paths and facts in a .json beside it', _write_npy, _npy_facts),
    '.h5': Format('data sets features, paths and facts', _write_h5, _h5_facts, 'h5py'),
    '.parquet': Format('columns paths and features, facts in the metadata', _write_parquet, _parquet_facts, 'pyarrow'),
}
