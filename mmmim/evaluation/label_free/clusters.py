"""Patches of an image in nested clusters (Latent MIM, arXiv 2407.15837, figures 6, 9, 10 and 11)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .unit import checked, cosines, unit_vectors

Linkage = Literal['ward', 'average']


class PatchTree:
    """The agglomerative clustering of the patches of one image: one tree, whose cuts are nested.

    The paper names neither linkage nor distance. The default is Ward's linkage on features of length 1, which leaves
    hardly any patch alone; the other is the average of the cosine distances ``1 - cos``.

    Args:
        features: One vector of each patch, ``[N, C]``.
        grid: Rows and columns of patches, ``(h, w)``.
        method: 'ward' or 'average'.

    Attributes:
        heights: Heights of the merges, ``[N - 1]``, rising. Of 'ward' ``sqrt(2 |A| |B| / (|A| + |B|))`` times the
            distance of the means of A and B.

    Raises:
        InputError: The features are not finite or not of the grid.
    """

    def __init__(self, features: np.ndarray, grid: tuple[int, int], method: Linkage = 'ward') -> None:
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        features, self.grid = checked(features, grid), grid
        self._merges: np.ndarray = np.zeros((0, 4))
        if len(features) > 1:
            if method == 'ward':
                self._merges = linkage(unit_vectors(features), 'ward')
            else:
                distances = np.clip(1 - cosines(features), 0, None)
                np.fill_diagonal(distances, 0)
                self._merges = linkage(squareform(distances, checks=False), 'average')
        self.heights = self._merges[:, 2]

    def cut(self, clusters: int) -> np.ndarray:
        """The labels of ``clusters`` clusters, or of one for each patch where there are fewer, ``[h, w]``.

        Clusters are numbered by falling size, those of one size in the order of their first patches.
        """
        return self._labels(max(0, len(self.heights) + 1 - clusters))

    def cut_at(self, height: float) -> np.ndarray:
        """The labels, as :meth:`cut` numbers them, of the clusters that merges up to a height make, ``[h, w]``."""
        return self._labels(int(np.searchsorted(self.heights, height, side='right')))

    def _labels(self, merges: int) -> np.ndarray:
        """After the first ``merges`` merges."""
        patches = len(self.heights) + 1
        root = np.arange(patches + merges)
        for i in reversed(range(merges)):
            for part in self._merges[i, :2].astype(int):
                root[part] = root[patches + i]
        return by_size(root[:patches]).reshape(self.grid)


def by_size(labels: np.ndarray) -> np.ndarray:
    """Labels ``[N]`` numbered anew from 0: by falling number of members, then in the order of their first members."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse]


def spread(values: np.ndarray, cell: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Values of patches as values of pixels: each has that of the patch that holds its centre.

    Args:
        values: Values of the patches, ``[h, w]``.
        cell: Height and width of a patch in pixels of the image.
        size: Height and width of the image.

    Returns:
        ``[H, W]``.
    """
    rows, columns = (
        np.minimum(((np.arange(length) + 0.5) / side).astype(int), number - 1)
        for length, side, number in zip(size, cell, values.shape, strict=True)
    )
    return values[rows[:, None], columns]
