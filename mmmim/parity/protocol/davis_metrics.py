"""J and F of the DAVIS benchmark (arXiv 1704.00675): of masks, of series of frames and of whole sequences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.evaluation.measures.davis import (
    boundary_map,
    boundary_radius,
    contour_accuracy,
    global_scores,
    region_similarity,
    score_sequence,
    statistics,
)

from .keyed import unpack, whole


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has pairs of masks and their boundaries."""
    return {'masks_prediction', 'masks_ground_truth', 'boundary_maps'} <= set(arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every score of pairs of masks ``[n, H, W]``, series of values and sequences of index maps ``[T, H, W]``."""
    shape = (len(about['pairs']), whole(about['config'], 'H', 1), whole(about['config'], 'W', 1))
    names = ('masks_prediction', 'masks_ground_truth')
    predicted, annotated = (unpack(arrays[name], shape, name) for name in names)
    pairs = list(zip(predicted, annotated, strict=True))
    counts = ~arrays['void']
    # What does not count is in no mask.
    counted = [(one & counts, other & counts) for one, other in pairs]
    kinds = ('ground_truth', 'prediction')
    sequences = dict.fromkeys(name.rpartition('_')[0] for name in about['objects'])
    objects = [
        pair
        for name in sequences
        for pair in score_sequence(*(list(arrays[f'{name}.{kind}']) for kind in kinds)).statistics()
    ]
    rows = zip(arrays['series'], arrays['series_length'].tolist(), strict=True)
    return {
        'J': np.array([region_similarity(*pair) for pair in pairs]),
        'F': np.array([contour_accuracy(*pair) for pair in pairs]),
        'F_bound_th': np.array([[contour_accuracy(*p, float(limit)) for p in pairs] for limit in about['bound_th']]),
        'boundary_maps': np.packbits([boundary_map(mask) for mask in annotated]),
        'J_void': np.array([region_similarity(*pair) for pair in counted]),
        'F_void': np.array([contour_accuracy(*pair) for pair in counted]),
        'radius': np.array([boundary_radius(*size) for size in arrays['sizes_for_radius'].tolist()]),
        'series_mean_recall_decay': np.array([statistics(row[:length]) for row, length in rows]),
        'objects_mean_recall_decay': np.array(objects),
        'global_scores': np.array(list(global_scores(objects).values())),
    }
