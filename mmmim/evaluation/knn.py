"""Nearest neighbours, exactly, in bounded memory."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils import InputError

#: Queries and database entries that are compared at a time.
CHUNK = (2048, 65_536)


def nearest_neighbours(database: Tensor, queries: Tensor, k: int, distance: str = 'cosine') -> Tensor:
    """Indices of the ``k`` nearest entries of a database, nearest first.

    Memory is bounded by a chunk of queries times a chunk of the database, whatever their numbers.

    Args:
        database: ``[n, D]``.
        queries: ``[m, D]``, on the same device.
        k: At most n.
        distance: 'cosine' or 'l2'.

    Returns:
        ``[m, k]``, int64.

    Raises:
        InputError: ``k`` is greater than n, or the distance is unknown.
    """
    if not 1 <= k <= len(database):
        raise InputError(f'k={k} neighbours of {len(database)} samples: give 1 to {len(database)}.')
    if distance not in ('cosine', 'l2'):
        raise InputError(f"distance must be 'cosine' or 'l2', got {distance!r}.")
    if distance == 'cosine':
        database, queries = F.normalize(database, dim=1), F.normalize(queries, dim=1)
    found = []
    for part in queries.split(CHUNK[0]):
        best = part.new_full((len(part), 0), 0.0)
        index = best.long()
        for start in range(0, len(database), CHUNK[1]):
            rows = database[start : start + CHUNK[1]]
            # Of |q - d|^2 = |q|^2 - 2 (qd - |d|^2 / 2) the first term is the same for all d.
            closeness = (
                part @ rows.T if distance == 'cosine' else torch.addmm(-0.5 * rows.square().sum(1), part, rows.T)
            )
            values, places = closeness.topk(min(k, len(rows)), dim=1)
            best, order = torch.cat([best, values], dim=1).topk(min(k, best.shape[1] + values.shape[1]), dim=1)
            index = torch.cat([index, places + start], dim=1).gather(1, order)
        found.append(index)
    return torch.cat(found)


def leave_one_out_accuracy(features: Tensor, labels: Tensor) -> float:
    """Share of samples whose nearest other sample, by cosine, is of their class.

    Nearest neighbours inside one set, as Latent MIM reports them on the validation set (arXiv 2407.15837).

    Args:
        features: ``[n, D]``, at least 2.
        labels: ``[n]``.
    """
    nearest = nearest_neighbours(features, features, 2)
    own = torch.arange(len(features), device=features.device)
    # Of equal samples either may come first.
    other = torch.where(nearest[:, 0] == own, nearest[:, 1], nearest[:, 0])
    return float((labels[other] == labels).double().mean())


def mode(votes: Tensor, num_classes: int) -> Tensor:
    """The most frequent class of every row, the smallest of several.

    Args:
        votes: ``[..., k]``, int64 in ``[0, num_classes)``.
        num_classes: K.

    Returns:
        ``[...]``.
    """
    counts = torch.zeros(*votes.shape[:-1], num_classes, dtype=torch.int32, device=votes.device)
    counts.scatter_add_(-1, votes, torch.ones_like(votes, dtype=torch.int32))
    return counts.argmax(dim=-1)  # the first of equal counts


def knn_classify(
    features: Tensor, labels: Tensor, queries: Tensor, num_classes: int, k: int = 10, distance: str = 'cosine'
) -> Tensor:
    """Majority vote of the nearest neighbours.

    Args:
        features: Of the training samples, ``[n, D]``.
        labels: ``[n]``.
        queries: ``[m, D]``.
        num_classes: K.
        k: Neighbours.
        distance: 'cosine' or 'l2'.

    Returns:
        Classes ``[m]``; of equally many votes the smallest class.
    """
    return mode(labels[nearest_neighbours(features, queries, k, distance)], num_classes)
