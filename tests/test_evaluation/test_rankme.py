"""RankMe against numpy's singular values, and where it is known."""

import numpy as np
import pytest
import torch

from mmmim.evaluation.measures import rankme as module
from mmmim.evaluation.measures.rankme import rankme


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(features, eps=1e-7):
    s = np.linalg.svd(features.double().numpy(), compute_uv=False)
    p = s / np.abs(s).sum() + eps
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize('shape', [(50, 12), (12, 50), (20, 20), (1, 5), (7, 1)])
@pytest.mark.parametrize('mean', [0.0, 3.0])
@pytest.mark.parametrize('chunk', [5, 8192])
def test_is_that_of_the_paper(shape, mean, chunk, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', chunk)
    features = random(*shape) * torch.linspace(0.1, 2, shape[1]) + mean
    assert rankme(features).item() == pytest.approx(reference(features), rel=1e-6)
    assert 0.99 < rankme(features).item() <= min(shape) * (1 + 1e-4)


def test_known_ranks():
    basis = torch.linalg.qr(random(64, 5, seed=1)).Q
    for rank in (1, 3, 5):  # equal singular values
        features = basis[:, :rank] @ torch.linalg.qr(random(32, rank, seed=2)).Q.T
        assert rankme(features).item() == pytest.approx(rank, rel=1e-3)
        assert rankme(features).item() == pytest.approx(reference(features), rel=1e-4)
        assert rankme(1e-6 * features).item() == pytest.approx(rankme(features).item())
    collapsed = torch.ones(64, 32) + 1e-3 * random(64, 32)
    assert 1 < rankme(collapsed).item() < 1.1
    assert rankme(torch.zeros(8, 4)).item() == 1


@pytest.mark.parametrize('width', [1, 8, 96])
def test_orthogonal_columns_of_one_length_use_all_directions(width):
    features = 3 * torch.linalg.qr(random(200, width).double()).Q
    # Of singular values that are all 1 / D, eps is all that is left: -D (1/D + eps) log(1/D + eps).
    p = 1 / width + 1e-7
    assert rankme(features).item() == pytest.approx(np.exp(-width * p * np.log(p)), rel=1e-9)
    assert rankme(features).item() == pytest.approx(width, rel=1e-4)


@pytest.mark.parametrize('shape', [(300, 64), (64, 300)])
def test_one_direction_has_rank_one(shape):
    line = random(shape[0], 1) * random(1, shape[1], seed=1)
    assert rankme(line).item() == pytest.approx(1, abs=2e-4)
    assert rankme(line).item() == pytest.approx(reference(line), rel=1e-4)


def test_many_rows_need_no_square_of_their_number(monkeypatch):
    sizes = []
    true = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, 'eigvalsh', lambda gram: sizes.append(gram.shape) or true(gram))
    rankme(random(20_000, 3))
    rankme(random(3, 20_000))
    assert sizes == [(3, 3), (3, 3)]


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_features_that_are_not_finite_give_nan(bad):
    features = random(8, 4)
    features[3, 2] = bad
    assert rankme(features).isnan()
