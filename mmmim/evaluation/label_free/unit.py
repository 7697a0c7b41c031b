"""Features of patches as vectors of length 1."""

from __future__ import annotations

import numpy as np

from mmmim.utils import InputError


def checked(features: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
    """Features of patches in fp64.

    Args:
        features: ``[N, C]`` of any floating type.
        grid: Rows and columns of patches, ``(h, w)``, which must have N in all; None where it does not matter.

    Returns:
        ``[N, C]``.

    Raises:
        InputError: They are not finite, there are none, or they are not of the grid.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f'Features of patches must be [N, C] with one patch or more, got {list(features.shape)}.')
    if grid is not None and grid[0] * grid[1] != len(features):
        raise InputError(f'{len(features)} patches do not fill a grid of {grid[0]} x {grid[1]}.')
    if not np.isfinite(features).all():
        raise InputError('Some features of patches are not finite: the model is broken, or the image is.')
    return features


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features ``[N, C]`` brought to length 1; those of length 0 stay as they are."""
    features = checked(features)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)


def cosines(features: np.ndarray) -> np.ndarray:
    """Cosine similarity of every pair of patches, ``[N, N]``; 0 with a feature of length 0."""
    unit = unit_vectors(features)
    return unit @ unit.T
