"""DINO's weighted k-NN classifier (arXiv 2104.14294, section 4.1)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmmim.evaluation.probes.weighted_knn import weighted_votes

_QUANTITY = re.compile(r'out\.votes\.k(\d+)')


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has votes by the number of neighbours."""
    return 'in.train' in arrays and any(_QUANTITY.fullmatch(name) for name in arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Votes, predictions, neighbours and accuracies for every k, of features ``[n, D]``."""
    train, test, labels, true = (
        torch.from_numpy(arrays[f'in.{name}']) for name in ('train', 'test', 'train_labels', 'test_labels')
    )
    settings = about['settings']
    ks = [int(each[1]) for each in filter(None, map(_QUANTITY.fullmatch, arrays))]
    found = {}
    for k, votes in weighted_votes(train, labels, test, settings['classes'], ks, settings['temperature']).items():
        found[f'out.votes.k{k}'] = votes.votes.numpy()
        found[f'out.pred.k{k}'] = votes.predicted.numpy()
        found[f'out.index.k{k}'] = votes.neighbours.numpy()
        for best in (1, 5):
            found[f'result_percent.k{k}.top{best}'] = np.asarray(100 * votes.accuracy(true, best))
    return found
