"""Labels carried through a video by recorded features (DINO, arXiv 2104.14294, section 4.2.1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.evaluation.measures.davis import number_of_objects
from mmmim.evaluation.tracking.label_maps import first_labels, hard_labels, object_maps, resize_indices
from mmmim.evaluation.tracking.propagation import Propagation, Propagator
from mmmim.utils import InputError

from .keyed import unpack, whole

#: Of the greatest patch size, so that a wrong number asks for no memory.
_LARGEST_PATCH = 64


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has features of frames, a first annotation and cases."""
    return 'cases' in about and {'feats', 'first_label'} <= set(arrays)


def split(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Label maps without the pixels that the recording marks as doubtful: two labels were equal but for rounding."""
    found = dict(arrays)
    for name, bits in arrays.items():
        hard = name.replace('.doubtful', '.hard')
        if name.endswith('.doubtful') and hard in arrays:
            maps = arrays[hard].copy()
            maps[1:][unpack(bits, maps[1:].shape, name)] = 0
            found[hard] = maps
    return found


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Soft labels, label maps and the last normalised maps of every case, from features ``[T, h, w, D]``."""
    features, annotation = torch.from_numpy(arrays['feats']), arrays['first_label']
    if features.ndim != 4 or annotation.ndim != 2 or annotation.dtype != np.uint8 or len(features) < 2:
        raise InputError('The recording must have feats [T, h, w, D] of several frames and first_label [H, W] uint8.')
    patch = whole(about['config'], 'patch_size', 1)
    if patch > _LARGEST_PATCH:
        raise InputError(f'patch_size={patch} of the recording: up to {_LARGEST_PATCH} is replayed.')
    height, width = grid = features.shape[1:3]
    size = (height * patch, width * patch)
    objects = number_of_objects(annotation)
    labels = first_labels(annotation, objects, grid, Propagation())
    # The authors' code has no channel for an object that is too small for the grid; here it stays empty.
    kept = int(arrays['first_small'].max(initial=0)) + 1
    found = {
        'first_small': resize_indices(annotation, grid),
        'first_one_hot': labels.t().unflatten(1, grid)[:kept].numpy(),
    }
    for name, case in about['cases'].items():
        how = Propagation(
            context=whole(case, 'n_last_frames'),
            radius=whole(case, 'radius'),
            topk=whole(case, 'topk', 1),
            temperature=float(about['config']['temperature']),
        )
        first, *others = features.flatten(1, 2)
        propagator = Propagator(first, labels, grid, how)
        soft = torch.stack([propagator.step(each) for each in others])
        maps = [hard_labels(each, grid, size, annotation.shape, how) for each in soft]
        normed = torch.stack(list(object_maps(soft[-1], grid, size, how.min_max)))[:kept]
        step = -(-size[0] // max(arrays[f'{name}.norm_last'].shape[1], 1))  # every so many rows and columns
        found |= {
            f'{name}.soft': soft.transpose(1, 2).unflatten(2, grid)[:, :kept].numpy(),
            f'{name}.hard': np.stack([annotation, *maps]),
            f'{name}.norm_last': normed[:, ::step, ::step].numpy(),
            # Given back, so that what is left out of the recording is left out of the replay too.
            f'{name}.doubtful': arrays[f'{name}.doubtful'],
        }
    return found
