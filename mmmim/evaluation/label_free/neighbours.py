"""Which patches are like a patch, in its own image and in others (Latent MIM, arXiv 2407.15837, figure 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .unit import unit_vectors


def similarities(features: np.ndarray, queries: Sequence[int]) -> np.ndarray:
    """Cosine similarity of patches to some of them.

    Args:
        features: One vector of each patch, ``[N, C]``.
        queries: Numbers of Q patches, row-major.

    Returns:
        ``[Q, N]``; 1 of a patch with itself.

    Raises:
        InputError: The features are not finite.
    """
    unit = unit_vectors(features)
    found = unit[list(queries)] @ unit.T
    found[np.arange(len(found)), list(queries)] = 1.0
    return found


def neighbourhoods(similarity: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """The patches that are similar enough to each query.

    Args:
        similarity: Similarities to Q patches, ``[Q, ...]``.
        thresholds: T similarities, a patch of which belongs to the neighbourhood.

    Returns:
        Bool ``[T, Q, ...]``: a lower threshold gives a neighbourhood that holds those of higher ones.
    """
    return np.stack([similarity >= threshold for threshold in thresholds])


def quantile_thresholds(similarity: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Similarities that a share of the patches has or exceeds.

    They suit encoders all of whose patches are similar, of which fixed thresholds choose nothing or everything.

    Args:
        similarity: Similarities to one patch, ``[N]``.
        shares: Shares of the patches, from 0 to 1.

    Returns:
        One threshold for each share.
    """
    return np.quantile(similarity, [1 - share for share in shares], method='higher')


class Nearest(NamedTuple):
    """A patch of another image: number of the image, number of the patch, and its similarity to the query."""

    image: int
    patch: int
    similarity: float


def nearest_patches(queries: np.ndarray, images: Sequence[np.ndarray], number: int) -> list[list[Nearest]]:
    """The most similar patches of other images, at most one of each image.

    Args:
        queries: Vectors of Q patches, ``[Q, C]``.
        images: Vectors of the patches of each image, ``[N, C]``.
        number: How many patches to give for a query, at most.

    Returns:
        For each query, the most similar first; of equally similar ones that of the first image.

    Raises:
        InputError: Features are not finite.
    """
    unit = unit_vectors(queries)
    found: list[list[Nearest]] = [[] for _ in unit]
    for i, features in enumerate(images):
        similarity = unit @ unit_vectors(features).T
        for each, patch, value in zip(found, similarity.argmax(axis=1), similarity.max(axis=1), strict=True):
            each.append(Nearest(i, int(patch), float(value)))
    return [sorted(each, key=lambda one: -one.similarity)[:number] for each in found]
