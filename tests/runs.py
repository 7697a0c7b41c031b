"""Trainings that tests start, what interferes with them, and what they leave."""

import itertools
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from mmengine import Config
from mmengine.hooks import Hook

from mmmim.engine import Runner
from tests.paths import ROOT
from tests.shrink import shrink

_NUMBER = itertools.count()


class At(Hook):
    """Calls functions at points of a training, each once: ``At(before_train_iter=(6, function), after_train=...)``.

    The number is that of the iteration, or of the batch of a validation or test; None: the first time.
    """

    def __init__(self, **points):
        for name, (number, function) in points.items():
            setattr(self, name, partial(self._call, name, number, function))

    def _call(self, name, number, function, runner, batch_idx=None, **kwargs):
        now = batch_idx if '_val_' in name or '_test_' in name else runner.iter
        if number in (None, now):
            delattr(self, name)
            function(runner)


def start(cfg, *hooks):
    """The runner of a training by a config, with more hooks, when it is done."""
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def pretraining(config, images, work_dir, pictures=False, **changes):
    """``configs/<config>.py``, shrunk, with dotted changes (``train_cfg__max_iters=5``)."""
    cfg = shrink(Config.fromfile(ROOT / f'configs/{config}.py'), images, work_dir, pictures)
    cfg.experiment_name = f'run{next(_NUMBER)}'
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def log_of(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def rows_of(runner):
    """What was logged, a dict a line."""
    return [json.loads(line) for line in Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()]


def names(folder, pattern='*.pth'):
    return sorted(path.name for path in Path(folder).glob(pattern))


def load(path):
    return torch.load(path, weights_only=True)


def assert_same(one, other, where=''):
    """Nested tensors and numbers are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f'{where}.{key}')
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, values in enumerate(zip(one, other, strict=True)):
            assert_same(*values, f'{where}.{i}')
    else:
        assert one == other, where


def assert_same_training(one, other):
    """Two checkpoints have the weights, moments and schedules of one training."""
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(one[part], other[part], part)


def send(signum):
    """Sends this process a signal, for :class:`At`."""
    return lambda runner: os.kill(os.getpid(), signum)
