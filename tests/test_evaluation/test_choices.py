"""How a setting is chosen, against computations of other libraries and loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mmmim.evaluation.probes.digit_scenes import PENALTIES, best_linear_accuracy
from mmmim.evaluation.probes.fitted import KNNProbe, LogisticRegressionProbe, Probe, choose
from mmmim.evaluation.probes.knn import leave_one_out_accuracy
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


def test_grid_of_knn_is_scored_on_images_that_it_was_not_fitted_on():
    train = noisy_samples()
    grid = [1, 3, 7, 15]
    best, rows = choose(KNNProbe(k=grid, distance=['l2']), train, 0.25, 0, 'aAcc', CPU)
    fitted, scored = held_out(40, 0.25)
    scale = StandardScaler().fit(train.features[fitted].reshape(-1, 5))
    x, y = (
        [scale.transform(train.features[part].reshape(-1, 5)), train.labels[part].reshape(-1)]
        for part in (fitted, scored)
    )
    expected = []
    for k in grid:
        found = KNeighborsClassifier(k).fit(*x).predict(y[0])
        expected.append((100 * accuracy_score(y[1], found), 100 * jaccard_score(y[1], found, average='macro')))
    assert [(row['aAcc'], row['mIoU']) for row in rows] == [pytest.approx(pair) for pair in expected]
    assert rows[0]['aAcc'] < 90  # one neighbour knows what it was fitted on perfectly
    assert best == {'distance': 'l2', 'k': grid[int(np.argmax([a for a, _ in expected]))]}


def test_grid_of_logistic_regression_is_scored_on_images_that_it_was_not_fitted_on():
    from sklearn.linear_model import LogisticRegression

    train = noisy_samples()
    grid = [1e-3, 1.0]
    _, rows = choose(LogisticRegressionProbe(c=grid, max_iter=200), train, 0.25, 3, 'mIoU', CPU)
    fitted, scored = held_out(40, 0.25, 3)
    scale = StandardScaler().fit(train.features[fitted].reshape(-1, 5))
    for c, row in zip(grid, rows, strict=True):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=2000)
        model.fit(scale.transform(train.features[fitted].reshape(-1, 5)), train.labels[fitted].reshape(-1))
        found = model.predict(scale.transform(train.features[scored].reshape(-1, 5)))
        assert row['aAcc'] == pytest.approx(100 * accuracy_score(train.labels[scored].reshape(-1), found))


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


@pytest.mark.parametrize(('by', 'best'), [('aAcc', COMMON), ('mIoU', BOTH)])
@pytest.mark.parametrize('order', [(COMMON, BOTH), (BOTH, COMMON)])
def test_the_criterion_decides(by, best, order):
    setting, rows = choose(Told(order), imbalanced(), 0.5, 0, by, CPU)
    scores = {row['answer']: (row['aAcc'], row['mIoU']) for row in rows}
    assert scores[COMMON] == (pytest.approx(80), pytest.approx(40))
    assert scores[BOTH] == (pytest.approx(70), pytest.approx(100 * (5 / 8 + 2 / 5) / 2))
    assert setting == {'answer': best}


def test_of_equal_scores_the_first_is_chosen():
    other = (0, 0, 0, 0, 1, 0, 0, 0, 1, 1)  # as good as the next, by other mistakes
    same = (1, 0, 0, 0, 1, 0, 0, 0, 0, 1)
    for order in ((COMMON, other, same), (COMMON, same, other)):
        setting, rows = choose(Told(order), imbalanced(), 0.5, 0, 'aAcc', CPU)
        assert rows[1]['aAcc'] == rows[2]['aAcc'] > rows[0]['aAcc']
        assert setting == {'answer': order[1]}


def test_nothing_is_fitted_on_the_held_out_images():
    probe = Told((COMMON, BOTH))
    choose(probe, imbalanced(), 0.2, 7, 'mIoU', CPU)
    fitted, scored = held_out(20, 0.2, 7)
    (index,) = probe.seen
    assert sorted({int(i) // 10 for i in index}) == fitted
    assert not {int(i) // 10 for i in index} & set(scored)


def test_leave_one_out_never_counts_a_sample_itself():
    rng = np.random.default_rng(0)
    single = rng.normal(size=(12, 6)).astype(np.float32)
    # Copies of each other, of the same and of different classes; three of one.
    features = np.concatenate([single, single[:6], single[:2]])
    labels = rng.integers(0, 3, len(features))
    labels[12:15] = (labels[:3] + 1) % 3
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = np.round(unit @ unit.T, 5)
    np.fill_diagonal(cosine, -np.inf)
    expected = np.mean([labels[cosine[i].argmax()] == labels[i] for i in range(len(labels))])
    found = leave_one_out_accuracy(torch.from_numpy(features), torch.from_numpy(labels))
    assert found == pytest.approx(expected)
    # Whoever counts itself is always right.
    itself = leave_one_out_accuracy(torch.from_numpy(np.repeat(single, 2, axis=0)), torch.arange(24))
    assert itself == 0


def test_the_penalty_is_chosen_on_the_validation_split(monkeypatch):
    """Of the weights of all penalties, those with the best validation; of equal ones the strongest penalty."""
    import mmmim.evaluation.probes.digit_scenes as module

    features = torch.tensor([[-1.0], [1.0], [-2.0], [2.0]])
    true = torch.tensor([0, 1, 0, 1])
    wrong = 1 - true
    # By penalty what is predicted; the splits are told apart by their number of samples.
    told = {PENALTIES[0]: {4: true, 2: wrong[:2]}, PENALTIES[1]: {4: wrong, 2: true[:2]}}
    monkeypatch.setattr(module, 'fit_logistic_regression', lambda *_: {c: torch.tensor(i) for i, c in enumerate(told)})
    monkeypatch.setattr(module, 'predict', lambda c, x: told[c][len(x)])

    def score(val, val_true):
        return best_linear_accuracy(features, true, val, val_true, features, true)

    assert score(features[:2], true[:2]) == 0  # the second penalty, which is wrong of the test split
    assert score(features[:2], wrong[:2]) == 1
    assert score(features[:2], torch.tensor([0, 0])) == 1  # both predict one of two
