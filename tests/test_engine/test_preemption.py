"""Signals stop a training after its step, with a checkpoint."""

import os
import signal
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmmim.cli.program import user_errors
from mmmim.engine import Runner
from mmmim.engine.preemption import PreemptionHook
from mmmim.utils import InputError, signals
from tests.paths import ROOT
from tests.shrink import shrink, write_images
from tests.test_engine.toy_training import toy_config

RESULT = ('state_dict', 'optimizer', 'param_schedulers')


@pytest.fixture(autouse=True)
def _handlers():
    yield
    restore()


BEFORE = {signum: signal.getsignal(signum) for signum in signals.STOPPING}


def restore():
    """A process that stops ignores what comes late: this one goes on."""
    for signum, handler in BEFORE.items():
        signal.signal(signum, handler)


class At(Hook):
    """Calls a function at a point of the training, once: ``At(after_train_iter=(6, function))``."""

    def __init__(self, **points):
        self.points = points

    def _at(self, name, index, runner):
        if name in self.points and self.points[name][0] == index:
            self.points.pop(name)[1](runner)

    def before_train(self, runner):
        self._at('before_train', 0, runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._at('before_train_iter', runner.iter, runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self._at('before_save_checkpoint', runner.iter, runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._at('after_val_iter', batch_idx, runner)

    def after_train(self, runner):
        self._at('after_train', 0, runner)


def send(signum):
    return lambda runner: os.kill(os.getpid(), signum)


def train(work_dir, *hooks, stopped=None, **changes):
    """Train; by ``stopped`` if a signal ends it."""
    runner = Runner.from_cfg(toy_config(work_dir, **changes))
    for hook in hooks:
        runner.register_hook(hook)
    if stopped is None:
        runner.train()
        return runner
    with pytest.raises(signals.Stopped) as end:
        runner.train()
    assert end.value.code == 128 + stopped
    restore()
    return runner


def load(path):
    return torch.load(path, weights_only=True)


def text(runner):
    with open(os.path.join(runner.log_dir, f'{runner.timestamp}.log')) as file:
        return file.read()


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


@pytest.mark.parametrize(
    ('signum', 'workers'), [(signal.SIGTERM, 0), (signal.SIGUSR1, 1), (signal.SIGINT, 0), (signal.SIGHUP, 0)]
)
def test_saves_at_the_step_and_resumes_exactly(tmp_path, signum, workers):
    changes = {'train_dataloader__num_workers': workers, 'train_cfg__max_iters': 12}
    train(tmp_path / 'whole', train_cfg__max_iters=12)
    runner = train(tmp_path / 'cut', At(before_train_iter=(6, send(signum))), stopped=signum, **changes)
    saved = tmp_path / 'cut' / 'iter_7.pth'
    assert {path.name for path in (tmp_path / 'cut').glob('*.pth')} == {'iter_7.pth'}
    assert (tmp_path / 'cut' / 'last_checkpoint').read_text() == str(saved)
    assert load(saved)['meta']['iter'] == 7
    name = 'Ctrl-C' if signum == signal.SIGINT else signum.name
    assert f'Stopped by {name} after iteration 7: saved {saved}; the same command with --resume' in text(runner)
    train(tmp_path / 'cut', resume='auto', **changes)
    whole, resumed = (load(tmp_path / folder / 'iter_12.pth') for folder in ('whole', 'cut'))
    for part in RESULT:
        assert_equal(whole[part], resumed[part])


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_capi_goes_on_bit_for_bit(tmp_path, workers):
    """Teacher, clustering, schedules, drop path, augmentation and masks."""
    write_images(tmp_path / 'images', number=20)

    def capi(name, *hooks, stopped=None):
        cfg = shrink(Config.fromfile(ROOT / 'configs/capi/digits.py'), tmp_path / 'images', tmp_path / name)
        cfg.train_cfg.max_iters = 6
        cfg.model.backbone.drop_path_rate = 0.3
        cfg.train_dataloader.num_workers = workers
        cfg.resume = 'auto'
        cfg.experiment_name = f'{name}{len(list((tmp_path).rglob("*")))}{workers}'
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        if stopped is None:
            runner.train()
            return
        with pytest.raises(signals.Stopped):
            runner.train()
        restore()

    capi('whole')
    capi('cut', At(before_train_iter=(3, send(signal.SIGTERM))), stopped=signal.SIGTERM)
    assert load(tmp_path / 'cut' / 'iter_4.pth')['meta']['iter'] == 4
    capi('cut')
    whole, resumed = (load(tmp_path / folder / 'iter_6.pth') for folder in ('whole', 'cut'))
    for part in RESULT:
        assert_equal(whole[part], resumed[part])


def test_validation_is_left_and_what_was_trained_is_saved(tmp_path):
    batches = []
    count = At(after_val_iter=(1, lambda runner: batches.append(1)))
    stop = At(after_val_iter=(0, send(signal.SIGTERM)))
    changes = {'default_hooks__checkpoint__interval': 100, 'train_cfg__val_interval': 5}
    train(tmp_path, stop, count, stopped=signal.SIGTERM, **changes)
    assert batches == []
    checkpoint = load(tmp_path / 'iter_5.pth')
    assert checkpoint['meta']['iter'] == 5
    assert checkpoint['param_schedulers'][0]['last_step'] == 5
    runner = train(tmp_path, resume='auto', train_cfg__max_iters=6, **changes)
    assert runner.iter == 6


def test_a_checkpoint_of_this_step_is_not_written_again(tmp_path):
    writes = []

    class Count(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            writes.append(runner.iter + 1)

    # While it saves at its interval, and in the validation of the same iteration.
    stop = At(before_save_checkpoint=(9, send(signal.SIGUSR1)))
    train(tmp_path / 'a', stop, Count(), stopped=signal.SIGUSR1)
    stop = At(after_val_iter=(0, send(signal.SIGUSR1)))
    train(tmp_path / 'b', stop, Count(), stopped=signal.SIGUSR1)
    assert writes == [10, 10]
    assert load(tmp_path / 'a' / 'iter_10.pth')['meta']['iter'] == 10


def test_outdated_checkpoints_go_as_ever(tmp_path):
    changes = {'default_hooks__checkpoint__interval': 3, 'default_hooks__checkpoint__max_keep_ckpts': 1}
    train(tmp_path, At(before_train_iter=(4, send(signal.SIGTERM))), stopped=signal.SIGTERM, **changes)
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_5.pth'}
    train(tmp_path, resume='auto', train_cfg__max_iters=6, **changes)
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_6.pth'}


@pytest.mark.parametrize('hook', ['mmengine.CheckpointHook', None])
def test_other_checkpoint_hooks(tmp_path, hook):
    changes = {'default_hooks__checkpoint__type': hook} if hook else {'default_hooks__checkpoint': None}
    runner = train(tmp_path, At(before_train_iter=(2, send(signal.SIGTERM))), stopped=signal.SIGTERM, **changes)
    assert (tmp_path / 'iter_3.pth').exists() == bool(hook)
    assert hook or 'after iteration 3: nothing was saved' in text(runner)


def test_epoch_loops_save_within_an_epoch(tmp_path):
    changes = {
        'train_cfg': {'_delete_': True, 'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 2, 'val_interval': 10},
        'train_dataloader__sampler': {'_delete_': True, 'type': 'mmengine.DefaultSampler', 'shuffle': True},
        'default_hooks__checkpoint': {'by_epoch': True, 'interval': 1, 'max_keep_ckpts': 1},
    }
    train(tmp_path, At(before_train_iter=(10, send(signal.SIGTERM))), stopped=signal.SIGTERM, **changes)
    # 8 iterations are an epoch.
    assert {path.name for path in tmp_path.glob('*.pth')} == {'epoch_1.pth', 'iter_11.pth'}
    meta = load(tmp_path / 'iter_11.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 11)
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_11.pth')


def test_before_the_first_step_there_is_nothing_to_save(tmp_path, capsys):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.register_hook(At(before_train=(0, send(signal.SIGTERM))))
    with pytest.raises(SystemExit) as end, user_errors():
        runner.train()
    assert end.value.code == 143
    assert 'stopped by SIGTERM: no training was running, so there is nothing to save' in capsys.readouterr().err
    assert not list(tmp_path.glob('*.pth'))


def test_after_the_last_step_all_is_there(tmp_path, capsys):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.register_hook(At(after_train=(0, send(signal.SIGTERM))))
    with pytest.raises(SystemExit) as end, user_errors():
        runner.train()
    assert end.value.code == 143
    assert 'SIGTERM came when the training was finished' in capsys.readouterr().err
    assert load(tmp_path / 'iter_20.pth')['meta']['iter'] == 20


def test_a_test_ends_at_once(tmp_path, capsys):
    runner = Runner.from_cfg(toy_config(tmp_path))

    class Stop(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            assert batch_idx == 0
            os.kill(os.getpid(), signal.SIGUSR1)

    runner.register_hook(Stop())
    with pytest.raises(SystemExit) as end, user_errors():
        runner.test()
    assert end.value.code == 138
    assert 'stopped by SIGUSR1' in capsys.readouterr().err


def test_handlers_are_there_for_a_training_and_not_after_it(tmp_path):
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    look = At(before_train_iter=(3, lambda runner: seen.append(signal.getsignal(signal.SIGTERM))))
    runner = train(tmp_path, look, train_cfg__max_iters=5)
    assert seen != [before]
    assert signal.getsignal(signal.SIGTERM) == before
    assert sum(isinstance(hook, PreemptionHook) for hook in runner.hooks) == 1


def test_a_killed_worker_is_one_sentence(tmp_path, capsys):
    def kill(runner):
        os.kill(runner.train_loop.dataloader_iterator._iterator._workers[0].pid, signal.SIGKILL)

    runner = Runner.from_cfg(toy_config(tmp_path, train_dataloader__num_workers=1, train_cfg__max_iters=100000))
    runner.register_hook(At(before_train_iter=(3, kill)))
    with pytest.raises(SystemExit) as end, user_errors():
        runner.train()
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith('error: A worker of a data loader (process ')
    assert message.count('\n') == 1
    for word in ('memory', 'train_dataloader.num_workers=0', '--resume'):
        assert word in message


def test_launchers_that_are_not_there(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(('SLURM_', 'OMPI_'))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for launcher, words in {
        'slurm': ['SLURM_PROCID', 'slurm_train.sh', 'leave it out'],
        'mpi': ['OMPI_COMM_WORLD_RANK', 'mpirun'],
        'pytorch': ['RANK', 'tools/dist_train.sh CONFIG GPUS'],
    }.items():
        with pytest.raises(InputError) as error:
            Runner.from_cfg(toy_config(tmp_path, launcher=launcher))
        for word in words:
            assert word in str(error.value)
    for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setattr(sys.modules['mmmim.engine.runner'], 'get_device', lambda: 'cpu')
    with pytest.raises(InputError, match=r'gives every process a GPU.*tools/dist_train\.sh'):
        Runner.from_cfg(toy_config(tmp_path, launcher='slurm'))
