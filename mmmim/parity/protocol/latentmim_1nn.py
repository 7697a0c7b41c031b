"""Accuracy of the nearest neighbour (Latent MIM, arXiv 2407.15837, table 1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.converters.common import vit_config
from mmmim.converters.latent_mim import convert_weights
from mmmim.evaluation.probes.knn import leave_one_out_accuracy, leave_one_out_neighbours
from mmmim.features.extraction import eval_mode, extract_features
from mmmim.models.stored import build_stored
from mmmim.utils.nested import under


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has nearest neighbours of images."""
    return 'out.nn_index' in arrays


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tokens of the first images, features, neighbours and accuracy, of images ``[B, C, H, W]``."""
    weights = {f'encoder.{name}': torch.from_numpy(value) for name, value in under(arrays, 'sd.').items()}
    converted = convert_weights(weights, 'The recording')
    vit = vit_config(converted, 'a Latent MIM', 'The recording', about['settings']['heads'], ['backbone.extra_tokens'])
    config = {
        **vit,
        'positions': 'sincos_stretched',
        'norm_eps': about['settings']['layernorm_eps'],
        'final_norm': 'backbone.norm.weight' in converted,
    }
    encoder = build_stored(config, under(converted, 'backbone.'), 'The recording')
    images, labels = torch.from_numpy(arrays['in.images']), torch.from_numpy(arrays['in.labels'])
    with eval_mode(encoder):
        found = extract_features(encoder, images)[-1]
    features = found.pool('pooled_raw')
    first = len(arrays['out.tokens_first2'])
    return {
        'out.tokens_first2': torch.cat([found.raw_extra, found.raw], dim=1)[:first].numpy(),
        'out.features': features.numpy(),
        'out.nn_index': leave_one_out_neighbours(features).numpy(),
        'out.acc_percent': np.asarray(100 * leave_one_out_accuracy(features, labels)),
    }
