"""The weighted k-NN classifier of Wu et al. 2018 (arXiv 1805.01978) as DINO uses it (arXiv 2104.14294, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.precision import with_float64

from .knn import nearest_neighbours, without_own
from .rows import Rows

#: Numbers that are held at a time, features of neighbours or votes, by kind of device. On a CPU so few that memory is
#: used again instead of paged in anew.
GATHERED = {'cpu': 2**20, 'cuda': 2**24}


@dataclass
class Votes:
    """Votes of the ``k`` nearest neighbours of m samples.

    Attributes:
        votes: Sum over neighbours of ``exp(similarity / T)`` by class, ``[m, K]``, in fp64.
        neighbours: Indices of training samples, most similar first, ``[m, k]``.
    """

    votes: Tensor
    neighbours: Tensor

    @property
    def ranked(self) -> Tensor:
        """Classes ``[m, K]``, most votes first; of equally many the smallest class."""
        return self.votes.sort(dim=1, descending=True, stable=True).indices

    @property
    def predicted(self) -> Tensor:
        """The class with the most votes, ``[m]``."""
        return self.ranked[:, 0]

    def accuracy(self, labels: Tensor, best: int = 1) -> float:
        """Share of samples whose class is among the ``best`` with the most votes, or the k best if k is smaller.

        Args:
            labels: Classes of the test samples, ``[m]``.
            best: How many classes may be named.
        """
        named = self.ranked[:, : min(best, self.neighbours.shape[1])]
        return float((named == labels.to(named.device).unsqueeze(1)).any(dim=1).double().mean())


def weighted_votes(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    num_classes: int,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    chunk: tuple[int, int] | None = None,
) -> dict[int, Votes]:
    """Votes for several k of one search for the largest; training and test samples are compared in chunks.

    Args:
        features: Features of the training samples, ``[n, D]``; their lengths do not matter.
        labels: Classes of the training samples, ``[n]``.
        queries: Features of the test samples, ``[m, D]``, on the same device.
        num_classes: Number of classes, K.
        ks: Numbers of neighbours, each at most n.
        temperature: What similarities are divided by, T.
        chunk: Test and training samples that are compared at a time; changes nothing but the memory that is needed.

    Returns:
        Votes by k.

    Raises:
        InputError: There is no k, one is not in 1 to n, or a label is no class.
    """
    rows = Rows.of(features), Rows.of(queries)
    parts = list(votes_in_chunks(rows[0], labels, rows[1], num_classes, ks, temperature, chunk))
    return {
        k: Votes(torch.cat([part[k].votes for part in parts]), torch.cat([part[k].neighbours for part in parts]))
        for k in ks
    }


def votes_in_chunks(
    features: Rows,
    labels: Tensor,
    queries: Rows,
    num_classes: int,
    ks: Sequence[int],
    temperature: float,
    chunk: tuple[int, int] | None = None,
    own: Tensor | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[dict[int, Votes]]:
    """:func:`weighted_votes` of consecutive test samples, so that the votes of all never lie in memory.

    The votes are not divided by their sum, which changes no order.

    Args:
        features: Features of the training samples, ``[n, D]``.
        labels: Classes of the training samples, ``[n]``.
        queries: Features of the test samples, ``[m, D]``, on the same device.
        num_classes: Number of classes, K.
        ks: Numbers of neighbours, each at most n, or n - 1 with ``own``.
        temperature: What similarities are divided by, T.
        chunk: Test and training samples that are compared at a time.
        own: Place of every test sample among the training samples, ``[m]``, which then has no vote on itself; -1 for
            those that are not among them. None where none is.
        report: Called with the training samples that are done and with n.

    Yields:
        Votes by k, of a few test samples at a time.

    Raises:
        InputError: As :func:`weighted_votes`.
    """
    if not ks or min(ks) < 1:
        raise InputError(f'ks={list(ks)}: give numbers of neighbours, 1 or more.')
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise InputError(f'Labels are {int(labels.min())} to {int(labels.max())}: there are {num_classes} classes.')
    k = max(ks) + (own is not None)
    found = nearest_neighbours(features, queries, k, ('cosine',), chunk=chunk, report=report)['cosine']
    labels = with_float64(labels).long()
    size = max(1, GATHERED.get(features.device.type, GATHERED['cpu']) // max(k * features.width, num_classes))
    gathered = torch.empty(0)
    for start, part in zip(range(0, max(1, len(found)), size), found.split(size), strict=True):
        index = part if own is None else without_own(part, own[start : start + len(part)])
        asked = F.normalize(with_float64(queries.read(start, start + len(part))).double(), dim=1)
        entries = with_float64(features.take(index))
        if not len(gathered):  # used again, since new pages cost more than the conversion
            gathered = torch.empty(entries.shape, dtype=torch.float64, device=entries.device)
        entries = gathered[: len(entries)].copy_(entries)
        lengths = torch.linalg.vector_norm(entries, dim=2).clamp_(min=1e-12)
        similarity = torch.einsum('md,mkd->mk', asked, entries).div_(lengths)
        # The search has ordered them as its precision could tell.
        closest = similarity.sort(dim=1, descending=True, stable=True)
        weight, order = (closest.values / temperature).exp(), with_float64(index).gather(1, closest.indices)
        classes = labels[order]
        empty = weight.new_zeros(len(order), num_classes)
        yield {k: Votes(empty.scatter_add(1, classes[:, :k], weight[:, :k]), order[:, :k]) for k in ks}
