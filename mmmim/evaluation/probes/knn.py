"""Nearest neighbours, exactly, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mmmim.features.patch_labels import mode
from mmmim.utils import InputError
from mmmim.utils.precision import with_float64

from .rows import Rows

#: Distances that neighbours can be nearest in.
DISTANCES = ('cosine', 'l2')
#: Queries and database entries that are compared at a time, by kind of device.
CHUNK = {'cpu': (1024, 16_384), 'cuda': (4096, 131_072)}
#: Entries that are searched as one first, at least and at most; their maximum takes few vector instructions.
GROUP = 4, 32
#: Votes that are counted at a time.
VOTES = 2**22


def nearest_neighbours(
    database: Rows | Tensor | np.ndarray,
    queries: Rows | Tensor | np.ndarray,
    k: int,
    distances: Sequence[str] = ('cosine',),
    dtype: torch.dtype | None = None,
    chunk: tuple[int, int] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Indices of the ``k`` nearest entries of a database, nearest first, for several distances at once.

    Queries meet the database in one product per pair of chunks: divided by the norms of its entries it is the cosine,
    less half of their squares the distance, but for terms of the query that change no order. For the cosine alone the
    entries are divided before the product. The database is read once, the queries once per chunk of it. Beside a
    product of chunks, memory holds only what is returned.

    Of equally close entries the one with the smallest index comes first, whatever the chunks. Rounding may tell equal
    entries apart, since a product of matrices does not sum all its entries in one order.

    Args:
        database: Features that are searched, ``[n, D]``.
        queries: ``[m, D]``, on the same device.
        k: At most n.
        distances: 'cosine' and 'l2', or one of them.
        dtype: Type of the matrix products, such as bfloat16; None for that of the rows.
        chunk: Queries and database entries that are compared at a time; None for :data:`CHUNK`.
        report: Called with the database entries that are done and with n.

    Returns:
        By distance ``[m, k]``, int64, on the device; the nearest of a smaller number are the first of them.

    Raises:
        InputError: ``k`` is greater than n, or a distance is unknown.
    """
    database, queries = Rows.of(database), Rows.of(queries)
    if not 1 <= k <= len(database):
        raise InputError(f'k={k} neighbours of {len(database)} samples: give 1 to {len(database)}.')
    for distance in distances:
        if distance not in DISTANCES:
            raise InputError(f"distance must be 'cosine' or 'l2', got {distance!r}.")
    size = chunk or CHUNK.get(database.device.type, CHUNK['cpu'])
    dtype = dtype or database.dtype
    best = {distance: _Nearest(len(queries), k, database) for distance in distances}
    memory = _Buffers(database)
    for start in range(0, len(database), size[1]):
        rows = database.read(start, min(start + size[1], len(database)))
        squares = rows.square().sum(dim=1)
        reciprocal, half = squares.sqrt().clamp(min=1e-12).reciprocal(), 0.5 * squares
        scaled = {*distances} == {'cosine'}
        columns = (rows * reciprocal.unsqueeze(1) if scaled else rows).to(dtype).T
        for first, asked in zip(range(0, len(queries), size[0]), queries.chunks(size[0]), strict=True):
            shape = len(asked), len(rows)
            products = torch.mm(asked.to(dtype), columns, out=memory('products', shape, dtype))
            if scaled:
                best['cosine'].update(first, products.to(database.dtype), start)
                continue
            for distance in distances:
                closeness = memory('closeness', shape, database.dtype)
                if distance == 'cosine':
                    torch.mul(products, reciprocal, out=closeness)
                else:
                    torch.sub(products, half, out=closeness)
                best[distance].update(first, closeness, start)
        if report is not None:
            report(start + len(rows), len(database))
    return {distance: nearest.in_order() for distance, nearest in best.items()}


class _Buffers:
    """Memory that is used again for every pair of chunks: new pages cost as much as a pass over them."""

    def __init__(self, rows: Rows) -> None:
        self.device = rows.device
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        entries = shape[0] * shape[1]
        if name not in self.buffers or len(self.buffers[name]) < entries:
            self.buffers[name] = torch.empty(entries, dtype=dtype, device=self.device)
        return self.buffers[name][:entries].view(shape)


class _Nearest:
    """The ``k`` closest entries so far of every query, sorted by their index."""

    def __init__(self, queries: int, k: int, database: Rows) -> None:
        self.k = k
        self.values = torch.empty(queries, k, dtype=database.dtype, device=database.device)
        self.index = torch.empty(queries, k, dtype=torch.int64, device=database.device)

    def update(self, first: int, closeness: Tensor, start: int) -> None:
        """Compare queries from ``first`` on with entries from ``start`` on, which follow those seen before."""
        values, index = _candidates(closeness, self.k)
        index += start
        own = slice(first, first + len(closeness))
        known = min(start, self.k)
        if known:
            values = torch.cat([self.values[own, :known], values], dim=1)
            index = torch.cat([self.index[own, :known], index], dim=1)
        kept = _greatest(values, min(self.k, values.shape[1]))
        self.values[own, : kept.shape[1]] = values.gather(1, kept)
        self.index[own, : kept.shape[1]] = index.gather(1, kept)

    def in_order(self) -> Tensor:
        """Indices, closest first."""
        return self.index.gather(1, self.values.sort(dim=1, descending=True, stable=True).indices)


def _candidates(closeness: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of entries that the ``k`` greatest of every row are among, in the order of the columns.

    Those are in the k groups of neighbouring columns with the greatest maxima: a search among the maxima and then
    inside k groups takes less time than one among all entries.
    """
    m, n = closeness.shape
    # About as many groups are searched as entries inside of those that are chosen.
    size = max(GROUP[0], min(GROUP[1], 2 ** int(math.log2(max(1.0, math.sqrt(n / k))))))
    groups = n // size
    if groups < 2 * k:
        values = closeness.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        return values, torch.arange(n, device=closeness.device).repeat(m, 1)
    whole = groups * size
    maxima = closeness[:, :whole].unflatten(1, (groups, size)).amax(dim=2)
    # What is not a number is the closest, as for `topk`.
    chosen = _greatest(maxima.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf), k)
    columns = (chosen.unsqueeze(2) * size + torch.arange(size, device=chosen.device)).flatten(1)
    rest = torch.arange(whole, n, device=chosen.device).expand(m, -1)
    columns = torch.cat([columns, rest], dim=1)
    values = closeness.gather(1, columns)
    return values.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf), columns


def _greatest(values: Tensor, k: int) -> Tensor:
    """Columns of the ``k`` greatest values of every row, in their own order; of equal values the first."""
    greatest, columns = values.topk(k, dim=1)
    last = greatest[:, -1:]
    if int((values >= last).sum()) == columns.numel():
        return columns.sort(dim=1).values
    # `topk` takes any of the values that equal the last one.
    above, equal = values > last, values == last
    room = k - above.sum(dim=1, keepdim=True)
    kept = above | (equal & (equal.cumsum(dim=1) <= room))
    return kept.nonzero()[:, 1].view(-1, k)


def without_own(neighbours: Tensor, own: Tensor) -> Tensor:
    """Neighbours that are not the sample itself.

    Args:
        neighbours: Indices, nearest first, one more than are wanted, ``[m, k + 1]``.
        own: Index of each sample among those that were searched, ``[m]``; -1 where it is not among them.

    Returns:
        ``[m, k]``. The sample need not come first, where others equal it, nor at all.
    """
    others = neighbours != own.unsqueeze(1)
    others[:, -1] &= ~others.all(dim=1)
    return neighbours[others].view(len(neighbours), neighbours.shape[1] - 1)


def leave_one_out_neighbours(features: Tensor) -> Tensor:
    """Index of the nearest other sample by cosine, ``[n]``, of features ``[n, D]`` (at least 2)."""
    nearest = nearest_neighbours(features, features, 2)['cosine']
    return without_own(nearest, torch.arange(len(features), device=features.device)).squeeze(1)


def leave_one_out_accuracy(features: Tensor, labels: Tensor) -> float:
    """Share of samples whose nearest other sample, by cosine, is of their class.

    Nearest neighbours inside one set, as Latent MIM reports them on the validation set (arXiv 2407.15837).

    Args:
        features: ``[n, D]``, at least 2.
        labels: Classes of the samples, ``[n]``.
    """
    return accuracy(labels[leave_one_out_neighbours(features)], labels)


def vote(neighbours: Tensor, labels: Tensor | np.ndarray, num_classes: int) -> Tensor:
    """Majority vote of neighbours; that of the ``k`` nearest of them is ``vote(neighbours[:, :k], ...)``.

    Args:
        neighbours: Indices ``[m, k]``.
        labels: Labels of the samples ``[n]``, or of the pixels of patches ``[n, P]``, where every pixel has a vote of
            its own; a tensor or a (memory-mapped) array, integers in ``[0, num_classes)``.
        num_classes: Number of classes, K.

    Returns:
        ``[m]`` or ``[m, P]``, of the labels' type, on the neighbours' device; of equally many votes the smallest label.
    """
    per_query = neighbours.shape[1] * math.prod(labels.shape[1:])
    found = []
    for part in neighbours.split(max(1, VOTES // per_query)):
        if isinstance(labels, Tensor):
            votes = labels[part.to(labels.device)].to(part.device)
        else:
            votes = torch.from_numpy(labels[part.cpu().numpy()]).to(part.device)
        found.append(mode(votes, num_classes, dim=1))
    return torch.cat(found)


def knn_classify(
    features: Tensor, labels: Tensor, queries: Tensor, num_classes: int, k: int = 10, distance: str = 'cosine'
) -> Tensor:
    """Majority vote of the nearest neighbours.

    Args:
        features: Features of the training samples, ``[n, D]``.
        labels: ``[n]``; or ``[n, P]`` of the pixels of patches, each with votes of its own.
        queries: Features of the samples to classify, ``[m, D]``.
        num_classes: Number of classes, K.
        k: Number of nearest neighbours that vote.
        distance: 'cosine' or 'l2'.

    Returns:
        Classes ``[m]`` or ``[m, P]``; of equally many votes the smallest class.
    """
    return vote(nearest_neighbours(features, queries, k, (distance,))[distance], labels, num_classes)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of correct classes."""
    return float(with_float64(predicted == labels).double().mean())
