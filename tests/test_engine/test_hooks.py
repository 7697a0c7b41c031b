import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from toy_training import toy_config

from mmmim.engine import Runner
from mmmim.engine.hooks import CheckpointHook, RuntimeInfoHook, ScheduledValueHook
from mmmim.utils import InputError
from mmmim.visualization.curves import draw_curves, read_scalars

REPOSITORY = Path(__file__).parents[2]


def rows(runner):
    path = os.path.join(runner.log_dir, 'vis_data', 'scalars.json')
    with open(path) as file:
        return [json.loads(line) for line in file]


def rows_of(work_dir):
    (path,) = Path(work_dir).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(work_dir, *hooks, **changes):
    runner = Runner.from_cfg(toy_config(work_dir, **changes))
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


class Outputs(Hook):
    """Keeps what the model returned."""

    def __init__(self):
        self.loss = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.loss.append(outputs['loss'].item())


def test_logged_losses_are_those_of_the_model(tmp_path):
    outputs = Outputs()
    runner = run(tmp_path, outputs)
    train = [row for row in rows(runner) if 'iter' in row]
    assert [row['iter'] for row in train] == [5, 10, 15, 20]
    for row in train:
        assert row['loss'] == pytest.approx(np.mean(outputs.loss[row['iter'] - 5 : row['iter']]), rel=1e-6)
        assert {'loss_main', 'spread', 'lr', 'images_per_s', 'time'} <= set(row)
    assert runner.message_hub.get_scalar('train/loss').data[0].tolist() == outputs.loss
    assert [row['step'] for row in rows(runner) if 'error' in row] == [10, 20]
    assert runner.message_hub.get_scalar('train/lr').max_length == 10_000  # appending copies the whole history


def test_no_value_is_read_between_logged_iterations(tmp_path, monkeypatch):
    reads, real = [], torch.Tensor.tolist

    class Reads(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            reads.append('|')

    def tolist(self):
        reads.append('read')
        return real(self)

    def forbidden(self):
        raise AssertionError('a host sync')

    runner = Runner.from_cfg(toy_config(tmp_path, train_cfg__max_iters=12, train_cfg__val_interval=7))
    hook = next(hook for hook in runner.hooks if isinstance(hook, RuntimeInfoHook))
    step = hook.after_train_iter

    def watched(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, 'tolist', tolist)
            patch.setattr(torch.Tensor, 'item', forbidden)
            patch.setattr(torch.Tensor, '__float__', forbidden)
            step(*args, **kwargs)

    hook.after_train_iter = watched
    runner.register_hook(Reads())
    runner.train()
    # Iterations 5 and 10 are logged, the eighth is the end of the data, 12 the last one.
    per_iteration = ''.join('x' if part == 'read' else '|' for part in reads).split('|')[:-1]
    assert [i + 1 for i, part in enumerate(per_iteration) if part] == [5, 8, 10, 12]
    assert max(len(part) for part in per_iteration) == 1
    # Validation after 7 iterations also handed them over.
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 12


def test_buffered_values_are_copies_and_may_be_numbers(tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.train_loop  # noqa: B018 (builds it)
    hook = RuntimeInfoHook()
    runner.register_hook(hook)
    hook.before_train(runner)
    counter = torch.zeros(1)
    for i in range(5):
        counter += 1
        hook.after_train_iter(
            runner, i, outputs={'counter': counter, 'number': 0.5 * i, 'half': torch.tensor(i).half()}
        )
    values = {
        key: runner.message_hub.get_scalar(f'train/{key}').data[0].tolist() for key in ('counter', 'number', 'half')
    }
    assert values == {'counter': [1, 2, 3, 4, 5], 'number': [0, 0.5, 1, 1.5, 2], 'half': [0, 1, 2, 3, 4]}


def test_training_info(tmp_path):
    class Slow(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            import time

            time.sleep(0.02)

    cfg = toy_config(tmp_path, train_cfg__max_iters=10)
    runner = Runner.from_cfg(cfg)
    runner.model.describe_batch = lambda per_gpu, images: f'micro-batches of {per_gpu // 2} of {images}'
    runner.register_hook(Slow())
    runner.train()
    log = (Path(runner.log_dir) / f'{runner.timestamp}.log').read_text()
    assert '1 process(es) (GPUs) x 8 images = effective batch of 8 images; micro-batches of 4 of 8' in log
    for row in rows(runner):
        if 'iter' in row:
            assert row['images_per_s'] == pytest.approx(8 / row['time'], rel=1e-3)
            assert 20 < row['images_per_s'] < 400


def write_log(folder, iterations, loss, val=()):
    folder = folder / 'vis_data'
    folder.mkdir(parents=True)
    with open(folder / 'scalars.json', 'w') as file:
        for i in iterations:
            row = {'lr': 1e-3, 'loss': loss, 'time': 0.1, 'memory': 5, 'iter': i, 'step': i}
            file.write(json.dumps(row) + '\n')
        file.writelines(json.dumps({'acc': 0.5, 'time': 0.1, 'step': step}) + '\n' for step in val)


def test_later_run_wins(tmp_path):
    write_log(tmp_path / '20260101_000000', [10, 20, 30, 40], 2.0, val=[20, 40])
    write_log(tmp_path / '20260102_000000', [30, 40, 50], 1.0, val=[40])
    write_log(tmp_path / '20260103_000000', [], 0.0, val=[0])  # a validation alone is no training
    with open(tmp_path / '20260102_000000' / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"loss": NaN, "iter": 60, "step": 60}\n{"loss": 1.')
    curves = read_scalars(tmp_path)
    assert set(curves) == {'loss', 'lr', 'val/acc'}
    assert curves['loss'][0].tolist() == [10, 20, 30, 40, 50]
    assert curves['loss'][1].tolist() == [2, 2, 1, 1, 1]
    assert curves['val/acc'][0].tolist() == [20, 40]


def test_validation_by_epoch(tmp_path):
    folder = tmp_path / '1' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [{'loss': 1.0, 'epoch': e, 'iter': i, 'step': i} for e, i in [(1, 5), (1, 10), (2, 15), (2, 20)]]
    lines += [{'acc': 0.1, 'step': 1}, {'acc': 0.2, 'step': 2}]
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))
    assert read_scalars(tmp_path)['val/acc'][0].tolist() == [10, 20]


def test_curves_after_resume(tmp_path):
    run(tmp_path, train_cfg__max_iters=10)
    first = (tmp_path / 'curves.png').stat().st_mtime_ns
    run(tmp_path, resume=True)
    assert (tmp_path / 'curves.png').stat().st_mtime_ns > first
    curves = read_scalars(tmp_path)
    assert curves['loss'][0].tolist() == [5, 10, 15, 20]
    assert curves['val/error'][0].tolist() == [10, 20]


def test_draw_curves(tmp_path):
    steps = np.arange(1, 300.0)
    curves = {'loss': (steps, 100 / steps), 'lr': (steps, steps), 'val/acc': (steps[:1], steps[:1])}
    draw_curves({'a': curves, 'b': {'loss': curves['loss']}}, tmp_path / 'a.png')
    draw_curves({'a': {'spread': (steps, np.zeros_like(steps))}}, tmp_path / 'b.png', title='b')
    assert (tmp_path / 'a.png').read_bytes()[:4] == (tmp_path / 'b.png').read_bytes()[:4] == b'\x89PNG'


def test_default_runtime_builds(tmp_path):
    from mmengine.config import Config

    cfg = Config.fromfile(REPOSITORY / 'configs' / '_base_' / 'default_runtime.py')
    toy = toy_config(tmp_path, train_cfg__max_iters=3)
    for key in ('default_hooks', 'custom_hooks', 'visualizer', 'log_processor'):
        toy.pop(key)
    runner = Runner.from_cfg(Config({**toy, **cfg}))
    names = [type(hook).__name__ for hook in runner.hooks]
    assert sorted(names) == sorted(
        [
            'RuntimeInfoHook',
            'IterTimerHook',
            'LoggerHook',
            'ParamSchedulerHook',
            'CheckpointHook',
            'DistSamplerSeedHook',
            'StepSeedHook',
            'TrainingInfoHook',
            'LabelsHook',
            'CurvesHook',
            'PicturesHook',
            'HealthHook',
            'ProbeHook',
        ]
    )
    assert isinstance(runner.hooks[names.index('CheckpointHook')], CheckpointHook)
    runner.train()
    assert torch.load(tmp_path / 'iter_3.pth', weights_only=True)['meta']['iter'] == 3


class SeesValue(Hook):
    """Keeps what a number of the model was in every step."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(runner.model.constraint.target)


def scheduled(tmp_path, name):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.model.constraint = torch.nn.Module()
    runner.model.constraint.target = 0.75
    runner.model.constraint.text = 'no number'
    runner.register_hook(ScheduledValueHook(name, {'type': 'mmmim.linear', 'start': 1.0, 'final': 0.0}))
    seen = SeesValue()
    runner.register_hook(seen)
    runner.train()
    return seen.values


def test_a_scheduled_value_is_set_before_every_step(tmp_path):
    values = scheduled(tmp_path, 'constraint.target')
    assert values == pytest.approx([1 - step / 20 for step in range(20)])
    logged = [row['target'] for row in rows_of(tmp_path) if 'target' in row]
    assert logged == pytest.approx(values[4::5])


@pytest.mark.parametrize(
    ('name', 'message'), [('nothing.target', "no part 'nothing'"), ('constraint.text', 'no number')]
)
def test_a_value_that_is_none(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        scheduled(tmp_path, name)
