"""Features that probes of SemanticMIM see, at every block (arXiv 2406.10673, table 1)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.converters.semantic_mim import backbone_config, convert_weights, flavour
from mmmim.features.extraction import eval_mode, extract_features
from mmmim.models.stored import build_stored
from mmmim.utils import InputError
from mmmim.utils.nested import under

_QUANTITY = re.compile(r'out\.(?P<kind>avg|cls|tokens)\.block(?P<block>\d+)')


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has features by block."""
    return any(_QUANTITY.fullmatch(name) for name in arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tokens and probe features after every recorded block, of images ``[B, C, H, W]``.

    Raises:
        InputError: The norm of the probe, which is not trained in pre-training, has weights.
    """
    weights = {f'backbone.{name}': torch.from_numpy(value) for name, value in under(arrays, 'sd.').items()}
    for kind, value in (('weight', 1.0), ('bias', 0.0)):
        norm = weights.pop(f'backbone.ln2.{kind}', torch.tensor(value))
        if (norm != value).any():
            raise InputError(f'sd.ln2.{kind} is not {value:g}: the norm of the probe has no weights.')
    converted = convert_weights(weights, 'The recording')
    config = backbone_config(converted, flavour(weights), 'The recording', about['settings']['heads'])
    encoder = build_stored(config, under(converted, 'backbone.'), 'The recording')
    quantities = list(filter(None, map(_QUANTITY.fullmatch, arrays)))
    blocks = sorted({int(each['block']) for each in quantities})
    with eval_mode(encoder):
        layers = extract_features(encoder, torch.from_numpy(arrays['in.images']), layers=blocks)
    found = {}
    for each in quantities:
        layer = layers[blocks.index(int(each['block']))]
        if each['kind'] == 'tokens':
            value = torch.cat([layer.raw_extra, layer.raw], dim=1)
        else:
            value = layer.pool({'avg': 'pooled_probe', 'cls': 'cls_probe'}[each['kind']])
        found[each[0]] = value.numpy()
    return found
