"""The weighted k-NN classifier of Wu et al. 2018 (arXiv 1805.01978) as DINO uses it (arXiv 2104.14294, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.precision import with_float64

from .knn import nearest_neighbours

#: Numbers of neighbours' features that are gathered at a time.
GATHERED = 2**24


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

    The votes are not divided by their sum, which changes no order.

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
    if not ks or min(ks) < 1:
        raise InputError(f'ks={list(ks)}: give numbers of neighbours, 1 or more.')
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise InputError(f'Labels are {int(labels.min())} to {int(labels.max())}: there are {num_classes} classes.')
    nearest = nearest_neighbours(features, queries, max(ks), ('cosine',), chunk=chunk)['cosine']
    features, queries, labels, found = (with_float64(x) for x in (features, queries, labels, nearest))
    size = max(1, GATHERED // (max(ks) * features.shape[1]))
    weights, order = [], []
    for asked, index in zip(queries.split(size), found.split(size), strict=True):
        entries = F.normalize(features[index].double(), dim=2)
        similarity = torch.einsum('md,mkd->mk', F.normalize(asked.double(), dim=1), entries)
        # The search has ordered them as its precision could tell.
        closest = similarity.sort(dim=1, descending=True, stable=True)
        weights.append((closest.values / temperature).exp())
        order.append(index.gather(1, closest.indices))
    weight, index = torch.cat(weights), torch.cat(order)
    classes = labels[index].long()
    empty = weight.new_zeros(len(queries), num_classes)
    return {k: Votes(empty.scatter_add(1, classes[:, :k], weight[:, :k]), index[:, :k]) for k in ks}
