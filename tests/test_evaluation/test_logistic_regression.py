import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmmim.evaluation.probes import rows
from mmmim.evaluation.probes.lbfgs import minimize
from mmmim.evaluation.probes.logistic_regression import fit_logistic_regression, predict
from mmmim.evaluation.probes.rows import Rows, Standardizer
from mmmim.utils import InputError
from tests.toys import blobs, generator

PENALTIES = (1e-3, 1.0, 100.0)


def weights_of(model):
    return torch.from_numpy(np.c_[model.coef_, model.intercept_])


def assert_close(ours, theirs, tolerance):
    """Biases matter up to a constant only."""
    centred = []
    for weight in (ours.double().clone(), theirs.clone()):
        weight[..., -1] -= weight[..., -1].mean(dim=-1, keepdim=True)
        centred.append(weight.numpy())
    np.testing.assert_allclose(*centred, rtol=0, atol=tolerance * abs(centred[1]).max())


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-5), (torch.float32, 1e-3)])
def test_it_is_that_of_scikit_learn(dtype, tolerance):
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    queries, _ = blobs(200, 10, 4, seed=4)
    together = fit_logistic_regression(x.to(dtype), y, 4, PENALTIES, max_iter=1000, tolerance=1e-12)
    predicted = predict(together, queries.to(dtype))
    assert together.dtype == dtype
    for c, ours, classes in zip(PENALTIES, together, predicted, strict=True):
        model = LogisticRegression(C=c, max_iter=1000, tol=1e-8).fit(x.double().numpy(), y.numpy())
        assert_close(ours, weights_of(model), tolerance)
        assert (classes.numpy() == model.predict(queries.double().numpy())).all()
        assert torch.equal(predict(ours, queries.to(dtype)), classes)
        alone = fit_logistic_regression(x.to(dtype), y, 4, c, max_iter=1000, tolerance=1e-12)
        assert_close(alone, weights_of(model), tolerance)


def test_chunks_change_nothing():
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    expected = fit_logistic_regression(x.double(), y, 4, PENALTIES, max_iter=20)
    found = fit_logistic_regression(Rows(x.double(), chunk=299), y, 4, PENALTIES, max_iter=20)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_rows_that_are_not_held_change_nothing(monkeypatch):
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    x = x.half()
    chosen = Rows(x.numpy(), np.arange(0, 300, 2), Standardizer(x), chunk=40)
    fitted = []
    for budget in (2**30, 10):
        monkeypatch.setattr(rows, 'HELD', budget)
        assert (chosen.held() is chosen) == (budget == 10)
        fitted.append(fit_logistic_regression(chosen, y[::2], 4, PENALTIES, max_iter=20))
    assert torch.equal(*fitted)


def test_from_the_solution_it_stays_there():
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    calls = []

    def fit(c, start=None):
        calls.clear()
        return fit_logistic_regression(x.double(), y, 4, c, 1000, start=start, report=lambda *done: calls.append(done))

    first = fit(1.0)
    assert (calls[0], calls[-1]) == ((0, 1000), (1000, 1000))
    assert 10 < len(calls) < 100
    assert torch.equal(fit(1.0, first), first)
    assert len(calls) == 1
    both = fit((1.0, 2.0), first)  # those of one penalty are a start for all
    assert torch.equal(both[0], first)
    assert not torch.equal(both[1], first)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_badly_scaled_features(dtype, tolerance):
    x, y = blobs(300, 6, 3, seed=3, spread=1.0)
    x = x.double() * torch.tensor([0.1, 1.0, 10.0, 1.0, 3.0, 1.0]) + torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0, 2.0])

    def objective(weight, c):
        """As scikit-learn writes it, over c."""
        losses = torch.nn.functional.cross_entropy(x @ weight[:, :-1].T + weight[:, -1], y, reduction='sum')
        return float(losses + weight[:, :-1].square().sum() / (2 * c))

    weights = fit_logistic_regression(x.to(dtype), y, 3, (1e-2, 1.0), max_iter=400, tolerance=1e-9)
    for c, weight in zip((1e-2, 1.0), weights.double(), strict=True):
        model = LogisticRegression(C=c, solver='newton-cholesky', tol=1e-9).fit(x.numpy(), y.numpy())
        least = objective(weights_of(model), c)
        assert least <= objective(weight, c) * (1 + 1e-12) <= least * (1 + tolerance)


def test_it_refuses():
    x, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(InputError, match='5 features have 4 labels'):
        fit_logistic_regression(x, labels[:4], 2)
    for c in (0.0, [], [1.0, -1.0]):
        with pytest.raises(InputError, match='greater than 0'):
            fit_logistic_regression(x, labels, 2, c)


def quadratics(conditions):
    """Ellipsoids of P condition numbers in 20 dimensions around different minima."""
    scales = torch.stack([torch.logspace(0, c, 20, dtype=torch.float64) for c in conditions])
    centres = torch.randn(scales.shape, generator=generator(), dtype=torch.float64)
    asked = []

    def evaluate(points, which):
        asked.append(which.tolist())
        off = points - centres[which].to(points.dtype)
        return 1 + 0.5 * (scales[which] * off.square()).sum(1).double(), scales[which].to(points.dtype) * off

    return evaluate, centres, asked


def test_problems_are_independent():
    evaluate, centres, asked = quadratics([0, 1, 2])
    found = minimize(evaluate, torch.zeros(3, 20, dtype=torch.float64), 500, 1e-8)
    torch.testing.assert_close(found.points, centres, rtol=0, atol=1e-6)
    assert found.iterations[0] < found.iterations[1] < found.iterations[2] < 500
    assert found.evaluations == len(asked)
    assert (asked[0], asked[-1]) == ([0, 1, 2], [2])  # finished ones cost nothing
    for i in range(3):
        alone = minimize(lambda x, w, i=i: evaluate(x, w + i), torch.zeros(1, 20, dtype=torch.float64), 500, 1e-8)
        assert torch.equal(alone.points[0], found.points[i])
        assert alone.iterations[0] == found.iterations[i]


def test_iterations_end():
    evaluate, centres, _ = quadratics([3, 1])
    start = torch.zeros(1, 20, dtype=torch.float64)
    losses = [float(minimize(evaluate, start, n, 0.0).losses) for n in (0, 1, 5, 10)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == float(evaluate(start, torch.tensor([0]))[0])
    assert minimize(evaluate, start, 5, 0.0).iterations.tolist() == [5]
    # When nothing improves in the precision of the numbers.
    found = minimize(evaluate, torch.zeros(2, 20), 1000, 0.0)
    assert (found.iterations < 300).all()
    torch.testing.assert_close(found.points, centres.float(), rtol=0, atol=5e-3)


@pytest.mark.parametrize('start', [100.0, -3.0])
def test_steep_and_flat_functions(start):
    """exp(x) - x leaves the range of numbers on one side and is nearly a line on the other."""

    def evaluate(points, which):
        return (points.exp() - points).sum(1).double(), points.exp() - 1

    found = minimize(evaluate, torch.full((1, 2), start, dtype=torch.float64), 300, 1e-10)
    torch.testing.assert_close(found.points, torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-8)
