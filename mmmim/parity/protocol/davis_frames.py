"""Frames as DINO's evaluation of videos reads them (arXiv 2104.14294, the released script)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.evaluation.tracking.label_maps import input_size
from mmmim.evaluation.tracking.sequences import resize_frame
from mmmim.utils import InputError

from .keyed import whole

#: The script's own; its first deviation is not ImageNet's 0.229.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)
_PATCHES = (16, 8)


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has sizes of frames and of labels."""
    return {'image_sizes', 'frame_and_label_sizes'} <= set(arrays)


def split(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sizes without those of the labels of square frames, whose rows and columns the script exchanges."""
    name = 'frame_and_label_sizes'
    sizes = arrays[name].copy()
    height, width = arrays['image_sizes'].T
    sizes[height == width, 2:] = 0
    return {**arrays, name: sizes}


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sizes of frames and of their labels, and a frame ``[3, h, w]``, RGB and normalised."""
    originals, image = arrays['image_sizes'], arrays['image_bgr']
    if originals.ndim != 2 or originals.shape[1] != 2 or originals.dtype.kind not in 'iu' or (originals < 1).any():
        raise InputError('image_sizes of the recording is no list of heights and widths in pixels.')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError('image_bgr of the recording is no image [H, W, 3] of 8 bits.')
    short_side = whole(about['config'], 'short_side', 1)
    if short_side > max(arrays['frame'].shape):
        raise InputError(f'short_side={short_side} of the recording is not that of its frame.')
    sizes = []
    for height, width in originals.tolist():
        rows, columns = input_size(height, width, max(_PATCHES))
        sizes.append([rows, columns, *(side // patch for patch in _PATCHES for side in (rows, columns))])
    height, width, _ = image.shape
    resized = resize_frame(image, input_size(height, width, 1, short_side))[..., ::-1] / 255
    return {
        'image_sizes': originals,
        'frame_and_label_sizes': np.array(sizes),
        'frame': ((resized - _MEAN) / _STD).transpose(2, 0, 1).astype(np.float32),
    }
