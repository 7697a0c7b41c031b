"""Features of many samples, read in chunks from memory or from a memory-mapped file, and their standardisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.precision import with_float64

#: Entries of the largest array of a chunk, by kind of device: 32 MiB in float32, 256 MiB on a GPU.
CHUNK_ENTRIES = {'cpu': 2**23, 'cuda': 2**26}
#: Bytes of the largest features that are kept as they are computed with, where many passes over them follow.
HELD = 2**30


class Rows:
    """The rows of a matrix of features, of which never more than a chunk is held on the device.

    A memory-mapped file is read anew in every pass. Features that a GPU has room for are faster as a tensor on it, in
    their own type: ``Rows(torch.from_numpy(features).cuda())``.

    Args:
        features: ``[n, D]`` of any floating type, a tensor or a (memory-mapped) array.
        index: Rows that count, in this order, ``[m]``; None for all.
        scale: Standardises every chunk.
        device: Device of the chunks; None for that of the features.
        chunk: Rows at a time; None for :data:`CHUNK_ENTRIES`.

    Raises:
        InputError: The features are not a matrix of floating-point numbers.
    """

    def __init__(
        self,
        features: Tensor | np.ndarray,
        index: Tensor | np.ndarray | None = None,
        scale: Standardizer | None = None,
        device: torch.device | str | None = None,
        chunk: int | None = None,
    ) -> None:
        floating = features.is_floating_point() if isinstance(features, Tensor) else features.dtype.kind == 'f'
        if features.ndim != 2 or not floating:
            raise InputError(
                f'Features are a matrix of floating-point numbers, one row per sample: got {list(features.shape)} of '
                f'{features.dtype}.'
            )
        own = features.device if isinstance(features, Tensor) else torch.device('cpu')
        self.features, self.scale, self.chunk = features, scale, chunk
        self.device = own if device is None else torch.device(device)
        double = features.dtype in (torch.float64, np.float64)
        #: Of the chunks: float64 where the features are, float32 otherwise.
        self.dtype = torch.float64 if double else torch.float32
        if isinstance(features, Tensor):
            self.index = None if index is None else torch.as_tensor(index, device=own)
        else:
            self.index = None if index is None else np.asarray(index)

    @classmethod
    def of(cls, features: Rows | Tensor | np.ndarray) -> Rows:
        """Rows of what may be rows already."""
        return features if isinstance(features, Rows) else cls(features)

    def __len__(self) -> int:
        return len(self.features if self.index is None else self.index)

    @property
    def width(self) -> int:
        """Width D of the features."""
        return self.features.shape[1]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows ``[start, stop)``, ``[stop - start, D]``; to be read only, since it may be the features themselves."""
        return self._made(self.features[start:stop] if self.index is None else self.features[self.index[start:stop]])

    def take(self, places: Tensor) -> Tensor:
        """Rows by their places, ``[..., D]`` of integers ``[...]`` on any device; held as a whole."""
        flat: Any = places.reshape(-1)
        flat = flat.to(self.features.device) if isinstance(self.features, Tensor) else flat.cpu().numpy()
        rows = self._made(self.features[flat if self.index is None else self.index[flat]])
        return rows.unflatten(0, places.shape)

    def _made(self, part: Any) -> Tensor:
        """Rows of the features as the device is to have them."""
        if not isinstance(part, Tensor):
            # A view of a file that must not be written to; torch warns of those.
            part = torch.from_numpy(np.array(part, copy=not part.flags.writeable))
        # Half the bytes travel to a GPU where the features are of half precision.
        part = part.to(self.device).to(self.dtype)
        return part if self.scale is None else self.scale(part)

    def held(self, budget: int | None = None) -> Rows:
        """The same rows in memory, standardised and in the type of the chunks, for many passes over them.

        Args:
            budget: Bytes that they may take, None for :data:`HELD`; rows that take more are converted in every pass.
        """
        budget = HELD if budget is None else budget
        entries = len(self) * self.width
        size = entries * torch.finfo(self.dtype).bits // 8
        held = isinstance(self.features, Tensor) and self.index is None and self.scale is None
        if size > budget or (held and self.features.dtype == self.dtype and self.features.device == self.device):
            return self
        whole = torch.empty(len(self), self.width, dtype=self.dtype, device=self.device)
        for part, chunk in zip(whole.split(self.rows_per_chunk()), self.chunks() if len(self) else (), strict=False):
            part.copy_(chunk)
        return Rows(whole, chunk=self.chunk)

    def rows_per_chunk(self, width: int = 0) -> int:
        """Rows of a chunk so small that ``width`` numbers per row fit into memory beside it as well."""
        if self.chunk is not None:
            return self.chunk
        entries = CHUNK_ENTRIES.get(self.device.type, CHUNK_ENTRIES['cpu'])
        return max(1, entries // max(self.width, width))

    def chunks(self, rows: int | None = None) -> Iterator[Tensor]:
        """Consecutive chunks ``[rows, D]``, the last one smaller; None for :meth:`rows_per_chunk`."""
        rows = rows or self.rows_per_chunk()
        for start in range(0, len(self), rows):
            yield self.read(start, min(start + rows, len(self)))

    def __iter__(self) -> Iterator[Tensor]:
        return self.chunks()


class Standardizer:
    """Zero mean and unit variance per channel, fitted on training features in one pass.

    Sums are in float64, of differences from the first row, and means and squares of chunks are merged (Chan, Golub and
    LeVeque 1983), so that a mean that is large beside the deviation costs no digits.

    Args:
        features: ``[n, D]``, at least one row.
    """

    def __init__(self, features: Rows | Tensor | np.ndarray) -> None:
        rows = Rows.of(features)
        origin = with_float64(rows.read(0, 1)).double()
        # The doubles of a chunk take twice its memory, so chunks are half as large.
        count, mean, squares = 0, torch.zeros_like(origin[0]), torch.zeros_like(origin[0])
        for chunk in rows.chunks(rows.rows_per_chunk(2 * rows.width)):
            x = with_float64(chunk).double() - origin
            own = x.mean(dim=0)
            delta, total = own - mean, count + len(x)
            squares += x.sub_(own).square_().sum(dim=0) + delta.square() * (count * len(x) / total)
            mean += delta * (len(x) / total)
            count = total
        self.mean = (mean + origin[0]).to(rows.dtype)
        # A constant channel stays constant, as in scikit-learn; differences from its first row are exactly 0.
        self.std = torch.where(squares > 0, squares / count, 1.0).sqrt().to(rows.dtype)

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise ``[m, D]``."""
        mean, std = self.mean.to(features.device), self.std.to(features.device)
        return (features - mean).div_(std)
