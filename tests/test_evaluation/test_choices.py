"""How a setting is chosen, against computations of other libraries and loops."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mmmim.evaluation.probes import fitted
from mmmim.evaluation.probes.fashion_scenes import PENALTIES, best_linear_accuracy
from mmmim.evaluation.probes.fitted import KNNProbe, LogisticRegressionProbe, Probe
from mmmim.evaluation.probes.procedure import choose, fit_chosen, held_out_parts
from mmmim.features.cache import Samples

CPU = torch.device('cpu')
CLASSES = 3


def noisy_samples(n=40, patches=4, width=5):
    """Patches whose features say little of their label, so that a probe knows those that it was fitted on best."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, (n, patches, 1)).astype(np.uint8)
    features = rng.normal(size=(n, patches, width)) + 0.5 * np.eye(CLASSES, width)[labels[..., 0]]
    return Samples(features.astype(np.float32), labels, labels[..., 0], CLASSES, CLASSES)


def held_out(n, share, seed=0):
    order = np.random.default_rng(seed).permutation(n)
    number = round(share * n)
    return sorted(order[number:]), sorted(order[:number])


KNN = (KNNProbe, 'k', {'distance': ['l2']}, [1, 3, 7, 15], KNeighborsClassifier)
LOGREG = (
    *(LogisticRegressionProbe, 'c', {'max_iter': 200}, [1e-3, 1.0]),
    lambda c: LogisticRegression(C=c, tol=1e-8, max_iter=2000),
)


@pytest.mark.parametrize(('probe', 'name', 'options', 'grid', 'model'), [KNN, LOGREG])
def test_a_grid_is_scored_on_images_that_it_was_not_fitted_on(probe, name, options, grid, model):
    train = noisy_samples()
    tried = probe(**{name: grid}, **options)
    place, rows = choose(tried, *held_out_parts(train, 0.25, 3), 'aAcc', CPU)
    best = tried.grid[place]
    parts = held_out(40, 0.25, 3)
    x = [train.features[part].reshape(-1, 5) for part in parts]
    y = [train.labels[part].reshape(-1) for part in parts]
    scale = StandardScaler().fit(x[0])
    expected = []
    for value in grid:
        found = model(value).fit(scale.transform(x[0]), y[0]).predict(scale.transform(x[1]))
        expected.append((100 * accuracy_score(y[1], found), 100 * jaccard_score(y[1], found, average='macro')))
    assert [(row['aAcc'], row['mIoU']) for row in rows] == [pytest.approx(pair) for pair in expected]
    assert rows[0]['aAcc'] < 90  # one neighbour knows what it was fitted on perfectly
    assert best[name] == grid[int(np.argmax([accuracy for accuracy, _ in expected]))]


class Told(Probe):
    """Predicts what it is told to, by setting."""

    def __init__(self, answers):
        super().__init__({'answer': answers}, standardize=False)
        self.seen = []

    def _fit(self, train, index):
        self.seen.append(index)

    def predict(self, queries, images):
        number = len(queries.rows(images))
        yield [torch.tensor(list(s['answer'])).repeat(number)[:number].unsqueeze(1) for s in self.settings]


def imbalanced():
    """Eight of ten pixels are of class 0."""
    labels = np.tile(np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 1], np.uint8), (20, 1))[..., None]
    return Samples(np.zeros((20, 10, 2), np.float32), labels, labels[..., 0], 2, 2)


#: Always the common class: 80 % of the pixels, IoU 80 and 0 %.
COMMON = (0,) * 10
#: Both classes, with more mistakes: 70 % of the pixels, IoU 62.5 and 40 %.
BOTH = (1, 1, 1, 0, 1, 0, 0, 0, 0, 1)
#: 90 % of the pixels, by different mistakes.
ONE, OTHER = (0, 0, 0, 0, 1, 0, 0, 0, 1, 1), (1, 0, 0, 0, 1, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ('by', 'order', 'best'),
    [
        ('aAcc', (COMMON, BOTH), COMMON),
        ('aAcc', (BOTH, COMMON), COMMON),
        ('mIoU', (COMMON, BOTH), BOTH),
        ('mIoU', (BOTH, COMMON), BOTH),
        ('aAcc', (COMMON, ONE, OTHER), ONE),  # of equal scores the first
        ('aAcc', (COMMON, OTHER, ONE), OTHER),
    ],
)
def test_the_criterion_decides(by, order, best):
    probe = Told(order)
    place, rows = choose(probe, *held_out_parts(imbalanced(), 0.2, 7), by, CPU)
    expected = {COMMON: (80, 40), BOTH: (70, 100 * (5 / 8 + 2 / 5) / 2)}
    for row in rows:
        if row['answer'] in expected:
            assert (row['aAcc'], row['mIoU']) == pytest.approx(expected[row['answer']])
    assert probe.grid[place] == {'answer': best}
    # Nothing is fitted on the held out images.
    (index,) = probe.seen
    assert sorted({int(i) // 10 for i in index}) == held_out(20, 0.2, 7)[0]


def half_labelled(n=40, patches=4, width=5):
    """Patches of which those without a label lie elsewhere and spread more."""
    train = noisy_samples(n, patches, width)
    ignored = np.arange(patches) % 2 == 1
    train.features[:, ignored] = 7 + 5 * train.features[:, ignored]
    train.labels[:, ignored], train.majority[:, ignored] = CLASSES, CLASSES
    return train


@pytest.mark.parametrize('grid', [[1, 3], [3]])
@pytest.mark.parametrize('standardize', ['once', 'labelled', False])
def test_what_features_are_standardised_by(standardize, grid):
    """Once: by all patches of the images that are not held out, for the choice and for the fit on all images."""
    train, scales = half_labelled(), []

    class Kept(KNNProbe):
        def _fit(self, train, index):
            scales.append(self.scale)
            super()._fit(train, index)

    fit_chosen(Kept(grid, ['l2'], standardize), train, CPU, 'mIoU', 0.25, 3)
    kept, _ = held_out(40, 0.25, 3)
    labelled = train.majority != CLASSES
    fits = [kept, range(40)] if len(grid) > 1 else [range(40)]
    for scale, images in zip(scales, fits, strict=True):
        if not standardize:
            assert scale is None
            continue
        part = (
            train.features[kept].reshape(-1, 5) if standardize == 'once' else train.features[images][labelled[images]]
        )
        expected = StandardScaler().fit(part)
        np.testing.assert_allclose(scale.mean, expected.mean_, atol=1e-5)
        np.testing.assert_allclose(scale.std, expected.scale_, rtol=1e-5)


def test_the_penalty_is_chosen_on_the_validation_split(monkeypatch):
    """Of the weights of all penalties, those with the best validation; of equal ones the strongest penalty."""
    features = torch.tensor([[-1.0], [1.0], [-2.0], [2.0]])
    true = torch.tensor([0, 1, 0, 1])
    wrong = 1 - true
    # By penalty what is predicted; the splits are told apart by their number of samples.
    told = {PENALTIES[0]: {4: true, 2: wrong[:2]}, PENALTIES[1]: {4: wrong, 2: true[:2]}}

    def predict(which, x):
        return torch.stack([told[PENALTIES[int(i)]][len(x)] for i in which.reshape(-1)])

    monkeypatch.setattr(fitted, 'fit_logistic_regression', lambda *_, **__: torch.arange(2).view(2, 1, 1))
    monkeypatch.setattr(fitted, 'predict', predict)
    monkeypatch.setattr('mmmim.evaluation.probes.fashion_scenes.PENALTIES', PENALTIES[:2])
    for val_true, score in ((true[:2], 0), (wrong[:2], 1), (torch.tensor([0, 0]), 1)):
        assert best_linear_accuracy(features, true, features[:2], val_true, features, true) == score
