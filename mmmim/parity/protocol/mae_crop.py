"""Crops of MAE's linear probe (arXiv 2111.06377, appendix A.1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.datasets.transforms import MAERandomResizedCrop


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has crops of images of several sizes."""
    return 'in.sizes' in arrays and 'out.params' in arrays


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Top, left, height and width of every crop, ``[sizes, draws, 4]``; each size starts from its own seed."""
    settings = about['settings']
    transform = MAERandomResizedCrop(
        224, crop_ratio_range=tuple(settings['scale']), aspect_ratio_range=tuple(settings['ratio'])
    )
    crops = []
    with torch.random.fork_rng(devices=[]):
        for i, (width, height) in enumerate(arrays['in.sizes'].tolist()):
            torch.manual_seed(settings['seed'] + i)
            image: np.ndarray = np.empty((height, width, 0))
            crops.append([transform.rand_crop_params(image) for _ in range(settings['draws'])])
    return {'out.params': np.array(crops)}
