"""LARS against its formula, and as part of mmengine."""

import pytest
import torch
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mmmim.engine import LARS
from mmmim.utils import InputError

ETA, LR = 1e-3, 3.0


def tensors(*shapes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def run(optimizer, parameters, gradients):
    """The parameters after a step with each of the gradients."""
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def by_hand(value, gradients, momentum=0.9, weight_decay=0.0, repeat_first=False):
    buffer = gradients[0].clone() if repeat_first else torch.zeros_like(value)
    for gradient in gradients:
        norm, other = value.norm(), gradient.norm()
        ratio = ETA * norm / (other + weight_decay * norm) if norm > 0 and other > 0 else 1.0
        buffer = momentum * buffer + gradient + weight_decay * value
        value = value - LR * ratio * buffer
    return value


@pytest.mark.parametrize('options', [{}, {'repeat_first': True}, {'momentum': 0.0}, {'weight_decay': 0.1}])
def test_steps_are_the_formula(options):
    """Tensors of zeros move by the learning rate, and so do those whose gradient is zero."""
    shapes = [(5, 7), (5,), (2, 3, 4), (4,)]
    start, steps = tensors(*shapes), [tensors(*shapes, seed=seed) for seed in (1, 2, 3)]
    start[3].zero_()
    steps[0][1].zero_()
    parameters = [nn.Parameter(value.clone()) for value in start]
    moved = run(LARS(parameters, lr=LR, eta=ETA, **options), parameters, steps)
    for value, before, gradients in zip(moved, start, zip(*steps, strict=True), strict=True):
        torch.testing.assert_close(value, by_hand(before, gradients, **options), rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, before)


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_scaled_gradients_are_the_formula(decay):
    """MAE's: the decayed gradient is scaled, vectors are not; a rate that changes does not enter the momentum."""
    start, steps = tensors((5, 7), (5,)), [tensors((5, 7), (5,), seed=seed) for seed in (1, 2, 3)]
    parameters = [nn.Parameter(value.clone()) for value in start]
    optimizer = LARS(parameters, lr=LR, weight_decay=decay, scaled='gradient', vectors=False)
    matrix, vector = start
    of_matrix, of_vector = torch.zeros_like(matrix), torch.zeros_like(vector)
    for i, (a, b) in enumerate(steps):
        optimizer.param_groups[0]['lr'] = LR * i
        run(optimizer, parameters, [(a, b)])
        a = a + decay * matrix
        of_matrix = 0.9 * of_matrix + a * ETA * matrix.norm() / a.norm()
        of_vector = 0.9 * of_vector + b
        matrix, vector = matrix - LR * i * of_matrix, vector - LR * i * of_vector
    for value, expected in zip(parameters, (matrix, vector), strict=True):
        torch.testing.assert_close(value.detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('decay', 'equal'), [(0.0, True), (0.1, False)])
def test_the_lars_of_timm_is_another_one_with_weight_decay(decay, equal):
    """Which is why scaled gradients are an option here: without, and where told to adapt, timm's steps are the same."""
    lars = pytest.importorskip('timm.optim.lars').Lars
    (start,), steps = tensors((5, 7)), [tensors((5, 7), seed=seed) for seed in (1, 2, 3)]
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    (mine,) = run(LARS([ours], lr=LR, weight_decay=decay, scaled='gradient'), [ours], steps)
    options = {'momentum': 0.9, 'trust_coeff': ETA, 'always_adapt': True}
    (other,) = run(lars([theirs], lr=LR, weight_decay=decay, **options), [theirs], steps)
    assert torch.allclose(mine, other, rtol=1e-5, atol=1e-7) == equal


def test_groups_and_parameters_without_a_gradient():
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = LARS([{'params': [one]}, {'params': [other], 'lr': 0.0}], lr=1.0)
    moved = run(optimizer, [one, other], [[torch.ones(3)] * 2])
    assert [value.equal(torch.ones(3)) for value in moved] == [False, True]
    assert torch.equal(run(optimizer, [one, other], [[None, None]])[0], moved[0])


def test_a_resumed_run_goes_on():
    start, steps = tensors((3, 4)), [tensors((3, 4), seed=seed) for seed in range(1, 5)]
    whole, parts = (nn.Parameter(start[0].clone()) for _ in range(2))
    (expected,) = run(LARS([whole], lr=LR, repeat_first=True), [whole], steps)
    first = LARS([parts], lr=LR, repeat_first=True)
    run(first, [parts], steps[:2])
    second = LARS([parts], lr=1.0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, [parts], steps[2:])[0], expected)


def test_a_step_never_waits_for_the_device():
    """Tensors without values have none that a step could read."""
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (3,))]
        optimizer = LARS(parameters, lr=LR, weight_decay=0.1, repeat_first=True)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        with pytest.raises(DataDependentOutputException):
            parameters[0].sum().item()


def test_as_an_optimiser_of_mmengine():
    built = OPTIMIZERS.build({'type': 'mmmim.LARS', 'params': nn.Linear(3, 2).parameters(), 'lr': 3.0})
    numbers = {'lr': 3.0, 'momentum': 0.9, 'weight_decay': 0.0, 'eta': 1e-3}
    assert built.defaults == {**numbers, 'repeat_first': False, 'scaled': 'momentum', 'vectors': True}
    with pytest.raises(InputError, match=r"LARS\.scaled must be 'momentum' or 'gradient', not 'rate'"):
        LARS([nn.Parameter(torch.ones(1))], lr=1.0, scaled='rate')
    assert built.step(lambda: 'loss') == 'loss'
    for name in ('lr', 'momentum', 'weight_decay', 'eta'):
        with pytest.raises(InputError, match=rf'LARS\.{name} must not be negative, got -1'):
            LARS([nn.Parameter(torch.ones(1))], **{'lr': 1.0, name: -1})
