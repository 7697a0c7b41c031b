"""Devices without float64, which no test machine has: a CPU that refuses it stands for them."""

from unittest.mock import Mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmim.engine.hooks.health_hook import _evenly
from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share, prototypes_in_use, target_entropy
from mmmim.evaluation.measures.rankme import rankme
from mmmim.evaluation.probes.logistic_regression import fit_logistic_regression, predict
from mmmim.utils import precision
from mmmim.utils.precision import widest_float, with_float64
from tests.toys import blobs


class WithoutFloat64(TorchDispatchMode):
    """Refuses to make float64 tensors, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in tree_leaves(out)):
            raise TypeError("the MPS framework doesn't support float64")
        return out


def test_the_widest_type_of_a_device():
    assert widest_float('mps') == widest_float(torch.device('mps', 0)) == torch.float32
    assert widest_float('cpu') == widest_float('cuda:1') == widest_float('meta') == torch.float64
    with pytest.raises(TypeError), WithoutFloat64():
        torch.zeros(2).double()


def test_probes_and_spread_rows_do_without(monkeypatch):
    x, y = blobs(60, 5, 3, seed=0)
    expected = fit_logistic_regression(x, y, 3, [1.0])
    rows = _evenly(x, 7)
    monkeypatch.setattr(precision, '_WITHOUT_FLOAT64', ('mps', 'cpu'))
    with WithoutFloat64():
        found = fit_logistic_regression(x, y, 3, [1.0])
        assert torch.equal(_evenly(x, 7), rows)
        assert torch.equal(predict(found[0], x), predict(expected[0], x))
    assert _evenly(torch.arange(2**24 + 3), 3).tolist()[-1] < 2**24 + 3  # float32 rounds the last index up


@pytest.mark.parametrize(
    'measure',
    [
        mean_pairwise_cosine,
        rankme,
        lambda x: prototypes_in_use(x.softmax(-1)) + target_entropy(x.softmax(-1)),
        lambda x: positional_share(x, torch.arange(len(x)) % 4, 4),
    ],
)
def test_measures_go_where_float64_is(measure, monkeypatch):
    """Every float64 tensor comes after a move to the CPU."""
    moved, x = [], torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    expected = measure(x)

    class Device(torch.Tensor):
        """Tells that it lies on a device that has none."""

        device = torch.device('mps')
        double = Mock(side_effect=TypeError("the MPS framework doesn't support float64"))

        def cpu(self):
            moved.append(self)
            return self.as_subclass(torch.Tensor)

    assert with_float64(x) is x
    assert torch.equal(measure(x.as_subclass(Device)), expected)
    assert moved
