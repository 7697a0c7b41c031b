"""Clusters and neighbourhoods of patches (Latent MIM, arXiv 2407.15837), by SciPy: no code of authors is published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.evaluation.label_free.clusters import Linkage, PatchTree
from mmmim.evaluation.label_free.neighbours import neighbourhoods, similarities
from mmmim.utils import InputError

_METHODS: dict[str, Linkage] = {'ward_unit': 'ward', 'average_cosine': 'average'}


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has features, and numbers of clusters."""
    return 'clusters' in about and 'feats' in arrays


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Trees and their cuts, similarities and neighbourhoods."""
    height, width, channels = arrays['feats'].shape
    features = arrays['feats'].reshape(-1, channels)
    found: dict[str, np.ndarray] = {}
    for name, method in _METHODS.items():
        tree = PatchTree(features, (height, width), method)
        found |= {
            f'{name}.clusters': np.stack([tree.cut(number) for number in about['clusters']]),
            f'{name}.cut': np.stack([tree.cut_at(cut) for cut in about['cuts']]),
            f'{name}.heights': tree.heights,
        }
    for row, column in about['queries']:
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(
                f'The recording asks for the patch in row {row} and column {column} of {height} x {width}.'
            )
    similarity = similarities(features, [row * width + column for row, column in about['queries']])
    similarity = similarity.reshape(-1, height, width)
    return {**found, 'similarity': similarity, 'neighbourhood': neighbourhoods(similarity, about['thresholds'])}
