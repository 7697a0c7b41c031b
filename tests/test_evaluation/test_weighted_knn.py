"""The weighted k-NN classifier against loops."""

import numpy as np
import pytest
import torch

from mmmim.evaluation.probes import weighted_knn
from mmmim.utils import InputError


@pytest.mark.parametrize('chunk', [None, (3, 7)])
def test_votes(chunk, monkeypatch):
    monkeypatch.setattr(weighted_knn, 'GATHERED', {'cpu': 1 if chunk else 2**24})
    rng = np.random.default_rng(0)
    x, q, y, true = rng.normal(size=(40, 5)), rng.normal(size=(11, 5)), rng.integers(0, 6, 40), rng.integers(0, 6, 11)
    similarity = (q / np.linalg.norm(q, axis=1)[:, None]) @ (x / np.linalg.norm(x, axis=1)[:, None]).T
    order = np.argsort(-similarity, axis=1)
    found = weighted_knn.weighted_votes(*map(torch.from_numpy, (x, y, q)), 6, (1, 4), 0.1, chunk)
    for k, votes in found.items():
        expected = np.zeros((11, 6))
        for i in range(11):
            for j in order[i, :k]:
                expected[i, y[j]] += np.exp(similarity[i, j] / 0.1)
        np.testing.assert_allclose(votes.votes, expected)
        np.testing.assert_array_equal(votes.neighbours, order[:, :k])
        ranked = np.argsort(-expected, axis=1, kind='stable')
        for best in (1, 5):
            hits = [true[i] in ranked[i, : min(best, k)] for i in range(11)]
            assert votes.accuracy(torch.from_numpy(true), best) == pytest.approx(np.mean(hits))


def test_what_cannot_be_voted_on():
    x, y = torch.eye(3), torch.arange(3)
    for ks, classes, message in (((), 3, 'ks='), ((4,), 3, '4 neighbours of 3'), ((1,), 2, 'Labels are 0 to 2')):
        with pytest.raises(InputError, match=message):
            weighted_knn.weighted_votes(x, y, x, classes, ks)
