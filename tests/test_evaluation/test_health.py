"""Every measure against a plain one in numpy, and at its ends."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share, prototypes_in_use, target_entropy


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_features_that_are_not_finite_give_nan(bad):
    features = random(8, 4)
    features[3, 2] = bad
    assert mean_pairwise_cosine(features).isnan()


@pytest.mark.parametrize('mean', [0.0, 2.0])
def test_mean_pairwise_cosine_is_the_mean_over_pairs(mean):
    features = (random(9, 6) + mean) * torch.linspace(0.1, 5, 9).unsqueeze(1)
    pairs = F.cosine_similarity(features.unsqueeze(0), features.unsqueeze(1), dim=-1)
    expected = pairs[~torch.eye(9, dtype=torch.bool)].mean().item()
    assert mean_pairwise_cosine(features).item() == pytest.approx(expected, abs=1e-6)
    with_zeros = torch.cat([features, torch.zeros(4, 6)])
    assert mean_pairwise_cosine(with_zeros).item() == pytest.approx(expected, abs=1e-6)


def test_mean_pairwise_cosine_at_its_ends():
    direction = random(1, 6)
    assert mean_pairwise_cosine(torch.arange(1.0, 6).unsqueeze(1) * direction).item() == pytest.approx(1)
    assert mean_pairwise_cosine(torch.cat([direction, -direction])).item() == pytest.approx(-1)
    assert mean_pairwise_cosine(torch.eye(6)).item() == pytest.approx(0, abs=1e-12)
    for features in (torch.zeros(5, 6), torch.cat([torch.zeros(5, 6), direction])):
        assert mean_pairwise_cosine(features).item() == 1


def test_target_entropy_and_prototypes_in_use_are_entropies():
    targets = (2 * random(4, 5, 7)).softmax(dim=-1)
    p = targets.double().numpy().reshape(-1, 7)
    expected = -(p * np.log(p)).sum(axis=1).mean() / np.log(7)
    assert target_entropy(targets).item() == pytest.approx(expected, rel=1e-6)
    mean = p.mean(axis=0)
    assert prototypes_in_use(targets).item() == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-6)


def test_target_entropy_and_prototypes_in_use_at_their_ends():
    one_hot = torch.eye(8)
    assert target_entropy(one_hot).item() == 0
    assert prototypes_in_use(one_hot).item() == pytest.approx(8)
    assert prototypes_in_use(one_hot[:3]).item() == pytest.approx(3)
    assert prototypes_in_use(one_hot[2:3]).item() == pytest.approx(1)
    uniform = torch.full((5, 8), 1 / 8)
    assert target_entropy(uniform).item() == pytest.approx(1)
    assert prototypes_in_use(uniform).item() == pytest.approx(8)


def share_reference(targets, position):
    """1 - (residual variance) / (variance), each with its degrees of freedom."""
    x, where = targets.double().numpy(), position.numpy()
    groups = [x[where == p] for p in np.unique(where)]
    within = sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)
    total = ((x - x.mean(axis=0)) ** 2).sum()
    return 1 - (within / (len(x) - len(groups))) / (total / (len(x) - 1))


@pytest.mark.parametrize('strength', [0.5, 1.0, 3.0])
def test_positional_share_is_the_adjusted_r_squared(strength):
    rng = torch.Generator().manual_seed(0)
    position = torch.randint(0, 6, (200,), generator=rng) * 2  # of 12 positions, those with odd numbers are empty
    targets = random(200, 5) + strength * random(12, 5, seed=1)[position] + 100
    share = positional_share(targets, position, 12).item()
    assert share == pytest.approx(share_reference(targets, position), rel=1e-5)
    assert 0.05 < share < 0.95


def test_positional_share_has_no_chance_level():
    """Two rows per position: half of the variance of noise is between positions."""
    position = torch.arange(100).repeat(2)
    shares = [positional_share(random(200, 50, seed=seed), position, 100).item() for seed in range(5)]
    assert np.mean(shares) < 0.05
    assert positional_share(random(100, 50)[position], position, 100).item() == pytest.approx(1)


def test_positional_share_without_anything_to_explain():
    position = torch.arange(4).repeat(5)
    assert positional_share(torch.zeros(20, 3), position, 4).item() == 0
    assert positional_share(torch.full((20, 3), 0.1), position, 4).item() == 0
    assert positional_share(random(4, 3), torch.arange(4), 4).item() == 0  # every position once
    bad = random(20, 3)
    bad[7, 1] = torch.nan
    assert positional_share(bad, position, 4).isnan()
    tiny = 1e-8 * random(4, 3)[position]
    assert positional_share(tiny, position, 4).item() == pytest.approx(1)
