"""RankMe of recorded features (Garrido et al. 2023, arXiv 2210.02885; PiLaMIM, table 3)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.evaluation.measures.rankme import rankme

_QUANTITY = re.compile(r'out\.eps(?P<eps>[\d.e+-]+)\.(?P<features>\w+)')


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has values of several epsilons, ``out.eps1e-7.z0`` of the features ``in.z0``."""
    return any(_QUANTITY.fullmatch(name) for name in arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values, of features ``[n, D]``."""
    found = {}
    for quantity in filter(None, map(_QUANTITY.fullmatch, arrays)):
        features = torch.from_numpy(arrays[f'in.{quantity["features"]}'])
        found[quantity[0]] = rankme(features, float(quantity['eps'])).numpy()
    return found
