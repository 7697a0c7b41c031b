"""Samples of few-shot transfer (Latent MIM, arXiv 2407.15837, table 7)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.datasets.few_shot import few_shot

_QUANTITY = re.compile(r'out\.index(?P<repeat>_repeat)?\.seed(?P<seed>\d+)')


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has indices by seed."""
    return any(_QUANTITY.fullmatch(name) for name in arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Indices for every seed, with and without repetition."""
    labels, shots = arrays['in.labels'].tolist(), about['settings']['shots']
    return {
        each[0]: np.array(few_shot(labels, shots, int(each['seed']), each['repeat'] is not None))
        for each in filter(None, map(_QUANTITY.fullmatch, arrays))
    }
