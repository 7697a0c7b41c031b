"""What is logged, and the hooks of every config."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from mmmim.engine import Runner
from mmmim.engine.hooks import RuntimeInfoHook, ScheduledValueHook
from mmmim.utils import InputError
from mmmim.visualization.curves import read_scalars
from tests.runs import log_of, rows_of, start
from tests.test_engine.toy_training import SlowHook, toy_config


class See(Hook):
    """Keeps what a function of the runner and the outputs says after every step."""

    priority = 'LOWEST'

    def __init__(self, function):
        self.function, self.seen = function, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(self.function(runner, outputs))


def test_logged_losses_are_those_of_the_model(tmp_path):
    losses = See(lambda runner, outputs: outputs['loss'].item())
    runner = start(toy_config(tmp_path), losses)
    train = [row for row in rows_of(runner) if 'iter' in row]
    assert [row['iter'] for row in train] == [5, 10, 15, 20]
    for row in train:
        assert row['loss'] == pytest.approx(np.mean(losses.seen[row['iter'] - 5 : row['iter']]), rel=1e-6)
        assert {'loss_main', 'spread', 'lr', 'images_per_s', 'time'} <= set(row)
    assert runner.message_hub.get_scalar('train/loss').data[0].tolist() == losses.seen
    assert [row['step'] for row in rows_of(runner) if 'error' in row] == [10, 20]
    assert runner.message_hub.get_scalar('train/lr').max_length == 10_000  # appending copies the whole history


def test_no_value_is_read_between_logged_iterations(tmp_path, monkeypatch):
    reads, forbidden = [], Mock(side_effect=AssertionError('a host sync'))

    def watched(*args, step=RuntimeInfoHook.after_train_iter, real=torch.Tensor.tolist, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, 'tolist', lambda self: reads.append('read') or real(self))
            patch.setattr(torch.Tensor, 'item', forbidden)
            patch.setattr(torch.Tensor, '__float__', forbidden)
            step(*args, **kwargs)

    monkeypatch.setattr(RuntimeInfoHook, 'after_train_iter', watched)
    numbers = See(lambda *_: len(reads))
    runner = start(toy_config(tmp_path, train_cfg__max_iters=12, train_cfg__val_interval=7), numbers)
    # Iterations 5 and 10 are logged, the eighth is the end of the data, 12 the last one.
    assert np.diff(numbers.seen, prepend=0).tolist() == [0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1]
    # Validation after 7 iterations also handed them over.
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 12


def test_buffered_values_are_copies_and_may_be_numbers(tmp_path):
    runner, hook, counter = Runner.from_cfg(toy_config(tmp_path)), RuntimeInfoHook(), torch.zeros(1)
    runner.train_loop  # noqa: B018 (builds it)
    hook.before_train(runner)
    for i in range(5):
        counter += 1
        outputs = {'counter': counter, 'number': 0.5 * i, 'half': torch.tensor(i).half()}
        hook.after_train_iter(runner, i, outputs=outputs)
    for key, values in {'counter': [1, 2, 3, 4, 5], 'number': [0, 0.5, 1, 1.5, 2], 'half': [0, 1, 2, 3, 4]}.items():
        assert runner.message_hub.get_scalar(f'train/{key}').data[0].tolist() == values


def test_training_info(tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path, train_cfg__max_iters=5))
    runner.model.describe_batch = lambda per_gpu, images: f'micro-batches of {per_gpu // 2} of {images}'
    runner.register_hook(SlowHook())
    runner.train()
    words = '1 process(es) (GPUs) x 8 images = effective batch of 8 images; micro-batches of 4 of 8'
    assert words in log_of(runner)
    (row,) = [row for row in rows_of(runner) if 'iter' in row]
    assert row['images_per_s'] == pytest.approx(8 / row['time'], rel=1e-3)
    assert row['images_per_s'] < 160


def test_validation_by_epoch(tmp_path):
    (tmp_path / '1/vis_data').mkdir(parents=True)
    lines = [{'loss': 1.0, 'epoch': e, 'iter': i, 'step': i} for e, i in [(1, 5), (1, 10), (2, 15), (2, 20)]]
    lines += [{'acc': 0.1, 'step': 1}, {'acc': 0.2, 'step': 2}]
    (tmp_path / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    assert read_scalars(tmp_path)['val/acc'][0].tolist() == [10, 20]


def test_a_scheduled_value_is_set_before_every_step(tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.model.constraint = torch.nn.Module()
    runner.model.constraint.target, runner.model.constraint.text = 0.75, 'no number'
    values = See(lambda runner, outputs: runner.model.constraint.target)
    schedule = {'type': 'mmmim.linear', 'start': 1.0, 'final': 0.0}
    for name, message in (('nothing.target', "no part 'nothing'"), ('constraint.text', 'no number')):
        with pytest.raises(InputError, match=message):
            ScheduledValueHook(name, schedule).before_train(runner)
    runner.register_hook(ScheduledValueHook('constraint.target', schedule))
    runner.register_hook(values)
    runner.train()
    assert values.seen == pytest.approx([1 - step / 20 for step in range(20)])
    assert [row['target'] for row in rows_of(runner) if 'target' in row] == pytest.approx(values.seen[4::5])
