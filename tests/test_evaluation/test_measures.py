"""Measures against plain ones in numpy and scikit-learn, and where they are known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from mmmim.evaluation.measures import dense
from mmmim.evaluation.measures import rankme as module
from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share, prototypes_in_use, target_entropy
from mmmim.evaluation.measures.rankme import rankme
from tests.toys import generator


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_features_that_are_not_finite_give_nan(bad):
    features = random(20, 3)
    features[3, 2] = bad
    assert mean_pairwise_cosine(features).isnan()
    assert positional_share(features, torch.arange(4).repeat(5), 4).isnan()
    assert rankme(features).isnan()


@pytest.mark.parametrize('mean', [0.0, 2.0])
def test_mean_pairwise_cosine_is_the_mean_over_pairs(mean):
    features = (random(9, 6) + mean) * torch.linspace(0.1, 5, 9).unsqueeze(1)
    pairs = F.cosine_similarity(features.unsqueeze(0), features.unsqueeze(1), dim=-1)
    expected = pairs[~torch.eye(9, dtype=torch.bool)].mean().item()
    for rows in (features, torch.cat([features, torch.zeros(4, 6)])):
        assert mean_pairwise_cosine(rows).item() == pytest.approx(expected, abs=1e-6)
    line = torch.cat([random(1, 6), -random(1, 6)])
    for rows, value in ((line, -1), (torch.eye(6), 0), (torch.zeros(5, 6), 1), (line[:1], 1)):
        assert mean_pairwise_cosine(rows).item() == pytest.approx(value, abs=1e-12)


def test_target_entropy_and_prototypes_in_use_are_entropies():
    targets = (2 * random(4, 5, 7)).softmax(dim=-1)
    p = targets.double().numpy().reshape(-1, 7)
    expected = -(p * np.log(p)).sum(axis=1).mean() / np.log(7)
    assert target_entropy(targets).item() == pytest.approx(expected, rel=1e-6)
    mean = p.mean(axis=0)
    assert prototypes_in_use(targets).item() == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-6)
    one_hot, uniform = torch.eye(8), torch.full((5, 8), 1 / 8)
    for rows, entropy, used in ((one_hot, 0, 8), (one_hot[:3], 0, 3), (one_hot[2:3], 0, 1), (uniform, 1, 8)):
        assert target_entropy(rows).item() == pytest.approx(entropy)
        assert prototypes_in_use(rows).item() == pytest.approx(used)


@pytest.mark.parametrize('strength', [0.5, 3.0])
def test_positional_share_is_the_adjusted_r_squared(strength):
    position = torch.randint(0, 6, (200,), generator=generator()) * 2  # those with odd numbers are empty
    targets = random(200, 5) + strength * random(12, 5, seed=1)[position] + 100
    x, where = targets.double().numpy(), position.numpy()
    groups = [x[where == p] for p in np.unique(where)]
    within = sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)
    total = ((x - x.mean(axis=0)) ** 2).sum()
    expected = 1 - (within / (len(x) - len(groups))) / (total / (len(x) - 1))
    assert 0.05 < expected < 0.95
    assert positional_share(targets, position, 12).item() == pytest.approx(expected, rel=1e-5)


def test_positional_share_at_its_ends():
    # Two rows per position: half of the variance of noise is between positions, and none is explained.
    position = torch.arange(100).repeat(2)
    shares = [positional_share(random(200, 50, seed=seed), position, 100).item() for seed in range(5)]
    assert np.mean(shares) < 0.05
    position = torch.arange(4).repeat(5)
    for targets in (torch.zeros(20, 3), torch.full((20, 3), 0.1)):
        assert positional_share(targets, position, 4).item() == 0
    assert positional_share(random(4, 3), torch.arange(4), 4).item() == 0  # every position once
    assert positional_share(1e-8 * random(4, 3)[position], position, 4).item() == pytest.approx(1)


def reference(features, eps=1e-7):
    s = np.linalg.svd(features.double().numpy(), compute_uv=False)
    p = s / np.abs(s).sum() + eps
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize('shape', [(50, 12), (12, 50), (1, 5), (7, 1)])
def test_rankme_is_that_of_the_paper(shape, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', 5)
    for mean in (0.0, 3.0):
        features = random(*shape) * torch.linspace(0.1, 2, shape[1]) + mean
        assert rankme(features).item() == pytest.approx(reference(features), rel=1e-6)
    assert rankme(torch.zeros(8, 4)).item() == 1


def test_many_rows_need_no_square_of_their_number(monkeypatch):
    sizes, true = [], torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, 'eigvalsh', lambda gram: sizes.append(gram.shape) or true(gram))
    rankme(random(20_000, 3))
    rankme(random(3, 20_000))
    assert sizes == [(3, 3), (3, 3)]


@pytest.mark.parametrize('ignored', [(), (0, 255)])
def test_measures_of_label_maps_are_those_of_scikit_learn(ignored):
    """Ignored labels that are predicted are classes of IoU 0, as in CAPI's evaluation."""
    rng = generator()
    true, wrong = (torch.randint(0, 6, (5, 8, 8), generator=rng) for _ in range(2))
    predicted = torch.where(torch.rand(true.shape, generator=rng) < 0.6, true, wrong)
    if ignored:
        true[true == 4] = 255
    keep = ~torch.isin(true, torch.tensor(ignored))
    parts = zip(predicted.byte(), true.byte(), strict=True)
    found = torch.stack([dense.confusion_matrix(p, t, 9, ignored) for p, t in parts]).sum(0)
    np.testing.assert_array_equal(found, confusion_matrix(true[keep], predicted[keep], labels=range(9)))
    expected = jaccard_score(true[keep], predicted[keep], average='macro')
    assert dense.mean_iou(found) == pytest.approx(expected)
    assert dense.pixel_accuracy(found) == pytest.approx(accuracy_score(true[keep], predicted[keep]))
