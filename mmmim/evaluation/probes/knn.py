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
CHUNK = {'cpu': (1024, 8192), 'cuda': (4096, 131_072)}
#: Neighbouring entries of which the greatest is looked at first; it takes few vector instructions.
GROUP = 32
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
    product of chunks, memory holds only what is returned and, while chunks are compared, candidates: at most ``k``
    groups of :data:`GROUP` entries per query.

    Of equally close entries the one with the smallest index comes first, whatever the chunks. Rounding may tell equal
    entries apart, since a product of matrices does not sum all its entries in one order.

    Args:
        database: Features that are searched, ``[n, D]``.
        queries: ``[m, D]``, on the same device.
        k: At most n.
        distances: 'cosine' and 'l2', or one of them.
        dtype: Type of the matrix products, such as bfloat16; None for that of the rows.
        chunk: Queries and database entries that are compared at a time; None for :data:`CHUNK`, or for many neighbours
            half as many queries and twice as many entries.
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
    if chunk is None and 4 * k * GROUP > size[1]:
        # The bound that few groups give is one that many entries reach.
        size = size[0] // 2, size[1] * 2
    dtype = dtype or database.dtype
    best = {distance: _Nearest(len(queries), k, database) for distance in distances}
    memory, scaled = _Buffers(database), {*distances} == {'cosine'}
    for start in range(0, len(database), size[1]):
        rows = database.read(start, min(start + size[1], len(database)))
        reciprocal = torch.linalg.vector_norm(rows, dim=1).clamp_(min=1e-12).reciprocal_()
        half = rows.square().sum(dim=1).mul_(0.5) if 'l2' in distances else None
        if scaled:
            rows = torch.mul(rows, reciprocal.unsqueeze(1), out=memory('rows', rows.shape, rows.dtype))
        columns = rows.to(dtype).T
        for first, asked in zip(range(0, len(queries), size[0]), queries.chunks(size[0]), strict=True):
            shape = len(asked), len(rows)
            # Rows of the closeness end with a whole group.
            whole = memory('closeness', (len(asked), -(-len(rows) // GROUP) * GROUP), database.dtype)
            closeness = whole[:, : len(rows)]
            whole[:, len(rows) :] = -torch.inf
            direct = scaled and dtype == database.dtype
            products = torch.mm(asked.to(dtype), columns, out=closeness if direct else memory('products', shape, dtype))
            for distance in distances:
                if half is not None and distance == 'l2':
                    torch.sub(products, half, out=closeness)
                elif not scaled:
                    torch.mul(products, reciprocal, out=closeness)
                elif not direct:
                    closeness.copy_(products)
                best[distance].update(first, whole, len(rows), start)
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
    """The ``k`` closest entries so far of every query, in no order.

    Like faiss's reservoir it looks at what is closer than the k-th of these, of which the later chunks have little.
    """

    def __init__(self, queries: int, k: int, database: Rows) -> None:
        self.k = k
        self.values = torch.empty(queries, k, dtype=database.dtype, device=database.device)
        self.index = torch.empty(queries, k, dtype=torch.int64, device=database.device)

    def update(self, first: int, closeness: Tensor, number: int, start: int) -> None:
        """Compare queries from ``first`` on with ``number`` entries from ``start`` on, which follow those seen before.

        Args:
            first: The first of the queries.
            closeness: ``[q, number]``, and -inf up to a multiple of :data:`GROUP`; contiguous.
            number: How many entries there are.
            start: The first of them.
        """
        own, known = slice(first, first + len(closeness)), min(start, self.k)
        before = self.values[own, :known], self.index[own, :known]
        # Of equally close entries the first are kept, so that others have to be closer.
        least = closeness.new_full((len(closeness),), -torch.inf)
        if known == self.k:
            least = torch.nextafter(before[0].amin(dim=1), -least)
        values, columns = _candidates(closeness, number, self.k, least)
        values, index = torch.cat([before[0], values], dim=1), torch.cat([before[1], columns + start], dim=1)
        kept = _greatest(values, min(self.k, known + number), index)
        self.values[own, : kept.shape[1]] = values.gather(1, kept)
        self.index[own, : kept.shape[1]] = index.gather(1, kept)

    def in_order(self) -> Tensor:
        """Indices, closest first."""
        values, order = self.values.sort(dim=1, descending=True)
        if bool((values[:, 1:] == values[:, :-1]).any()):
            by_index = self.index.argsort(dim=1)
            values = self.values.gather(1, by_index)
            order = by_index.gather(1, values.sort(dim=1, descending=True, stable=True).indices)
        return self.index.gather(1, order)


def _candidates(closeness: Tensor, number: int, k: int, least: Tensor) -> tuple[Tensor, Tensor]:
    """Entries that the ``k`` greatest of every row are among, or those of them that are at least so great.

    Those are in the k groups of neighbouring columns with the greatest maxima, and none is less than the least of these
    maxima. Where what is known already, ``least``, leaves no more than k groups to a row, these are the candidates.

    Args:
        closeness: ``[q, number]``, and -inf up to a multiple of :data:`GROUP`; contiguous.
        number: How many columns hold entries.
        k: How many are looked for.
        least: What is no candidate is less, ``[q]``.

    Returns:
        Values ``[q, w]``, -inf in the place of none, and columns, in no order. What is not a number is the greatest, as
        for ``topk``: infinity, also in ``closeness``.
    """
    q, device = len(closeness), closeness.device
    grouped = closeness.view(q, -1, GROUP)
    groups = grouped.shape[1]
    maxima = grouped.amax(dim=2)
    if math.isnan(float(maxima.amax())):
        closeness.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        maxima = grouped.amax(dim=2)
    if groups <= k and bool((least == -torch.inf).all()):
        return closeness[:, :number], torch.arange(number, device=device).expand(q, -1)
    above = maxima >= least.unsqueeze(1)
    if int(above.sum(dim=1).max()) > k:
        chosen = _greatest(maxima, k)
        least = torch.maximum(least, maxima.gather(1, chosen).amin(dim=1))
        group = chosen.add_(torch.arange(q, device=device).unsqueeze(1), alpha=groups).flatten()
        values = grouped.flatten(0, 1).index_select(0, group)
        is_candidate = values.view(q, -1) >= least.unsqueeze(1)
    else:
        group = above.flatten().nonzero().squeeze(1)
        values = grouped.flatten(0, 1).index_select(0, group)
        is_candidate = values >= least[group // groups].unsqueeze(1)
    place = is_candidate.flatten().nonzero().squeeze(1)
    # Places among the groups that were looked at become rows and columns.
    column = torch.add(place % GROUP, group[place // GROUP], alpha=GROUP)
    row = column // (groups * GROUP)
    column -= row * (groups * GROUP)
    counts = torch.bincount(row, minlength=q)
    # Rows of entries one after the other become rows of a matrix.
    width = int(counts.max())
    slot = row * width + torch.arange(len(row), device=device) - (counts.cumsum(0) - counts)[row]
    found = closeness.new_full((q * width,), -torch.inf).index_copy_(0, slot, values.flatten()[place])
    columns = column.new_full((q * width,), number).index_copy_(0, slot, column)
    return found.view(q, width), columns.view(q, width)


def _greatest(values: Tensor, k: int, index: Tensor | None = None) -> Tensor:
    """Columns of the ``k`` greatest values of every row, in no order; of equal values those of the smallest index.

    Args:
        values: What is compared, ``[q, n]``.
        k: How many are taken, at most n.
        index: What tells equal values apart, ``[q, n]``; None for their columns.
    """
    greatest, columns = values.topk(k, dim=1, sorted=False)
    last = greatest.amin(dim=1, keepdim=True)
    if int((values >= last).sum()) == columns.numel():
        return columns
    # `topk` takes any of the values that equal the last one.
    order = None if index is None else index.argsort(dim=1)
    values = values if order is None else values.gather(1, order)
    above, equal = values > last, values == last
    room = k - above.sum(dim=1, keepdim=True)
    kept = (above | (equal & (equal.cumsum(dim=1) <= room))).nonzero()[:, 1].view(-1, k)
    return kept if order is None else order.gather(1, kept)


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
