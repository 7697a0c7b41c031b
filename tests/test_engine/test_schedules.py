import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmmim.engine.schedules import ScheduleLR, build_schedule
from mmmim.utils import InputError


def test_truncated_cosine_is_the_recipe():
    schedule = build_schedule({'type': 'mmmim.truncated_cosine', 'base': 1e-3, 'warmup_ratio': 0.1, 'truncation': 0.8})
    total, warmup = 500_000, 50_000
    values = [schedule(step, total) for step in (0, warmup - 1, warmup, warmup + 225_000, total - 1)]
    half = 0.5e-3 * (1 + math.cos(math.pi * 0.8 * 0.5))
    last = 0.5e-3 * (1 + math.cos(math.pi * 0.8 * 449_999 / 450_000))
    assert values == pytest.approx([0.0, 1e-3, 1e-3, half, last])
    assert schedule(1, total) == pytest.approx(1e-3 / (warmup - 1))
    assert last == pytest.approx(9.55e-5, rel=1e-3)


def test_momentum_is_one_minus_learning_rate():
    lr = build_schedule({'type': 'mmmim.truncated_cosine', 'base': 1e-3})
    momentum = build_schedule({'type': 'mmmim.truncated_cosine', 'start': 1.0, 'base': 0.999, 'final': 1.0})
    for step in (0, 1, 99, 100, 101, 500, 999):
        assert momentum(step, 1000) == pytest.approx(1 - lr(step, 1000))


def test_linear_cosine_and_constant():
    linear = build_schedule({'type': 'mmmim.linear', 'start': 0.996, 'final': 1.0})
    assert [linear(step, 4) for step in range(4)] == pytest.approx([0.996, 0.997, 0.998, 0.999])
    cosine = build_schedule({'type': 'mmmim.cosine', 'start': 1.0, 'final': 0.0})
    assert [cosine(step, 4) for step in (0, 2)] == pytest.approx([1.0, 0.5])
    assert build_schedule({'type': 'mmmim.constant', 'value': 0.5})(3, 4) == 0.5


def test_warmup_cosine():
    options = {'type': 'mmmim.warmup_cosine', 'start': 0.25, 'base': 1.0, 'final': 0.25, 'warmup_ratio': 0.2}
    schedule = build_schedule(options)
    # The warm-up reaches its end at step 20, and half of the cosine is at step 60.
    assert [schedule(step, 100) for step in (0, 10, 20, 60)] == pytest.approx([0.25, 0.625, 1.0, 0.625])
    assert schedule(100, 100) == pytest.approx(0.25)
    assert build_schedule({'type': 'mmmim.warmup_cosine', 'warmup_ratio': 0.0})(0, 3) == 1.0


def test_short_runs_have_no_division_by_zero():
    schedule = build_schedule({'type': 'mmmim.truncated_cosine'})
    assert [schedule(step, 2) for step in range(2)] == pytest.approx([1.0, 0.5 * (1 + math.cos(0.4 * math.pi))])
    assert schedule(0, 10) == 0.0


def test_unknown_schedule():
    with pytest.raises(InputError, match=r'mmmim\.cosin.*mmmim\.cosine'):
        build_schedule({'type': 'mmmim.cosin'})


def test_learning_rates_of_groups_follow_the_schedule():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{'params': parameters[:1]}, {'params': parameters[1:], 'lr': 0.02}], lr=0.1)
    wrapper = OptimWrapper(optimizer)
    schedule = {'type': 'mmmim.truncated_cosine', 'warmup_ratio': 0.3}
    scheduler = ScheduleLR(wrapper, schedule, end=10)
    function = build_schedule(schedule)
    for step in range(10):
        assert [group['lr'] for group in optimizer.param_groups] == pytest.approx(
            [0.1 * function(step, 10), 0.02 * function(step, 10)]
        )
        wrapper.step()
        scheduler.step()
    with pytest.raises(InputError, match='by_epoch=False'):
        ScheduleLR(wrapper, schedule, end=10, by_epoch=True)
