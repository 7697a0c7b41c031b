"""Schedules against formulas and recordings, and what they set in a training."""

import math

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from mmmim.engine.schedules import ScheduleLR, ScheduleWeightDecay, build_schedule
from mmmim.utils import InputError
from tests.paths import ROOT


def test_truncated_cosine_is_the_recipe():
    schedule = build_schedule({'type': 'mmmim.truncated_cosine', 'base': 1e-3, 'warmup_ratio': 0.1, 'truncation': 0.8})
    total, warmup = 500_000, 50_000
    values = [schedule(step, total) for step in (0, warmup - 1, warmup, warmup + 225_000, total - 1)]
    half = 0.5e-3 * (1 + math.cos(math.pi * 0.8 * 0.5))
    last = 0.5e-3 * (1 + math.cos(math.pi * 0.8 * 449_999 / 450_000))
    assert values == pytest.approx([0.0, 1e-3, 1e-3, half, last])
    assert schedule(1, total) == pytest.approx(1e-3 / (warmup - 1))
    assert last == pytest.approx(9.55e-5, rel=1e-3)


@pytest.mark.parametrize(
    ('options', 'total', 'steps', 'values'),
    [
        ({'type': 'mmmim.linear', 'start': 0.996, 'final': 1.0}, 4, range(4), [0.996, 0.997, 0.998, 0.999]),
        ({'type': 'mmmim.linear', 'start': 0.0, 'final': 1.0, 'first': 1}, 4, range(4), [0.25, 0.5, 0.75, 1.0]),
        ({'type': 'mmmim.cosine', 'start': 1.0, 'final': 0.0}, 4, (0, 2), [1.0, 0.5]),
        ({'type': 'mmmim.constant', 'value': 0.5}, 4, (3,), [0.5]),
        # The warm-up reaches its end at step 20, and half of the cosine is at step 60.
        (
            {'type': 'mmmim.warmup_cosine', 'start': 0.25, 'base': 1.0, 'final': 0.25, 'warmup_ratio': 0.2},
            100,
            (0, 10, 20, 60, 100),
            [0.25, 0.625, 1.0, 0.625, 0.25],
        ),
        ({'type': 'mmmim.warmup_cosine', 'warmup_ratio': 0.0}, 3, (0,), [1.0]),
        (
            {'type': 'mmmim.closed_cosine', 'warmup_ratio': 0.375},
            8,
            range(8),
            [0, 0.5, 1, 1, 0.8535533906, 0.5, 0.1464466094, 0],
        ),
        # Changes come with the first step of which the share of a milestone has passed.
        (
            {'type': 'mmmim.multi_step', 'milestones': [0.5, 0.75], 'start': 0.2, 'base': 2.0, 'warmup_ratio': 0.2},
            20,
            (0, 1, 4, 9, 10, 14, 15, 19),
            [0.2, 0.65, 2.0, 2.0, 0.2, 0.2, 0.02, 0.02],
        ),
        (
            {'type': 'mmmim.multi_step', 'milestones': [0.7], 'factor': 0.5},
            7,
            range(7),
            [1.0] * 5 + [0.5] * 2,
        ),
        # One minus the learning rate, which is CAPI's momentum.
        (
            {'type': 'mmmim.truncated_cosine', 'start': 1.0, 'base': 0.999, 'final': 1.0},
            100,
            (0, 9, 55),
            [1.0, 0.999, 1 - 0.5e-3 * (1 + math.cos(math.pi * 0.8 * 0.5))],
        ),
    ],
)
def test_values(options, total, steps, values):
    schedule = build_schedule(options)
    assert [schedule(step, total) for step in steps] == pytest.approx(values)


def test_short_runs_have_no_division_by_zero():
    schedule = build_schedule({'type': 'mmmim.truncated_cosine'})
    assert [schedule(step, 2) for step in range(2)] == pytest.approx([1.0, 0.5 * (1 + math.cos(0.4 * math.pi))])
    assert schedule(0, 10) == 0.0


def recorded(name, *keys):
    with np.load(ROOT / f'tests/data/{name}_tiny.npz') as file:
        return [file[key] for key in keys]


def test_recorded_schedules_of_ijepa():
    """50 iterations of schedules of 62, the first 20 of them warm-up; the optimiser's rate is 1e-3, its decay 0.4."""
    lr, decay, momentum = recorded('ijepa', 'sched.lr', 'sched.wd', 'sched.ema')
    warmup = {'type': 'mmmim.warmup_cosine', 'start': 0.2, 'final': 1e-3, 'warmup_ratio': 20 / 62, 'first': 1}
    cosine = {'type': 'mmmim.cosine', 'start': 0.1, 'final': 1.0, 'first': 1}
    linear = {'type': 'mmmim.linear', 'start': 0.996, 'final': 1.0}
    # The momentum's length is not rounded down.
    for values, config, base, total in ((lr, warmup, 1e-3, 62), (decay, cosine, 0.4, 62), (momentum, linear, 1, 62.5)):
        assert len(values) == 50
        schedule = build_schedule(config)
        assert [base * schedule(step, total) for step in range(50)] == pytest.approx(values, rel=1e-6)


def test_recorded_schedules_of_pilamim():
    epochs, lr, probe, momentum = recorded('pilamim', 'sched/epoch', 'sched/lr', 'sched/probe_lr', 'traj/momentum')
    for known, values, base, options in (
        (epochs.tolist(), lr, 1.2e-3, {'epochs': 800, 'warmup_epochs': 40}),
        (range(100), probe, 3.0, {'epochs': 100, 'warmup_epochs': 10}),
    ):
        schedule = build_schedule({'type': 'mmmim.epochwise_min_cosine', **options})
        # Seven iterations per epoch, all of which have the value of their epoch.
        for iteration in range(7):
            steps = [7 * epoch + iteration for epoch in known]
            assert [base * schedule(step, 7 * options['epochs']) for step in steps] == pytest.approx(values, rel=1e-12)
    linear = build_schedule({'type': 'mmmim.linear', 'start': 0.996, 'final': 1.0})
    assert [linear(step, 3) for step in range(3)] == pytest.approx(momentum, rel=1e-12)


def test_rates_and_weight_decay_of_groups_follow_their_schedules():
    groups = [
        {'params': [torch.nn.Parameter(torch.zeros(1))], 'weight_decay': d, 'lr': r} for d, r in ((0.4, 0.1), (0, 1))
    ]
    wrapper = OptimWrapper(torch.optim.AdamW(groups))
    rate = {'type': 'mmmim.truncated_cosine', 'warmup_ratio': 0.3}
    decay = {'type': 'mmmim.cosine', 'start': 0.1, 'final': 1.0, 'first': 1}
    schedulers = [ScheduleLR(wrapper, rate, end=10), ScheduleWeightDecay(wrapper, decay, end=10)]
    for step in range(10):
        first, second = wrapper.optimizer.param_groups
        factors = [build_schedule(schedule)(step, 10) for schedule in (rate, decay)]
        assert [first['lr'], second['lr']] == pytest.approx([0.1 * factors[0], factors[0]])
        assert [first['weight_decay'], second['weight_decay']] == pytest.approx([0.4 * factors[1], 0])
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    assert factors[1] == 1.0
    for kind in (ScheduleLR, ScheduleWeightDecay):
        with pytest.raises(InputError, match=f'mmmim.{kind.__name__} counts iterations: set by_epoch=False'):
            kind(wrapper, {'type': 'mmmim.constant', 'value': 1.0}, end=10, by_epoch=True)
