"""Signals stop a training after its step, with a checkpoint."""

import os
import signal
import sys
from contextlib import nullcontext

import pytest
import torch
from mmengine.hooks import Hook

from mmmim.cli.program import user_errors
from mmmim.engine import Runner
from mmmim.utils import InputError, signals
from tests.runs import At, assert_same_training, load, log_of, names, send, start
from tests.test_engine.toy_training import toy_config

SIGTERM, SIGUSR1 = send(signal.SIGTERM), send(signal.SIGUSR1)
BEFORE = {signum: signal.getsignal(signum) for signum in signals.STOPPING}


@pytest.fixture(autouse=True)
def restore():
    """A process that stops ignores what comes late: this one goes on."""

    def again():
        for signum, handler in BEFORE.items():
            signal.signal(signum, handler)

    yield again
    again()


@pytest.fixture
def train(tmp_path, restore):
    """Trains in a folder; with ``stopped``, until this signal has ended it."""

    def run(name, *hooks, stopped=None, **changes):
        runner = Runner.from_cfg(toy_config(tmp_path / name, **changes))
        for hook in hooks:
            runner.register_hook(hook)
        with pytest.raises(signals.Stopped) if stopped else nullcontext() as end:
            runner.train()
        assert not stopped or end.value.code == 128 + stopped
        assert stopped or signal.getsignal(signal.SIGTERM) == BEFORE[signal.SIGTERM]
        restore()
        return runner

    return run


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A training of 12 iterations that no signal has met."""
    folder = tmp_path_factory.mktemp('whole')
    start(toy_config(folder, train_cfg__max_iters=12))
    return load(folder / 'iter_12.pth')


@pytest.mark.parametrize(
    ('signum', 'workers'), [(signal.SIGTERM, 0), (signal.SIGUSR1, 1), (signal.SIGINT, 0), (signal.SIGHUP, 0)]
)
def test_saves_at_the_step_and_resumes_exactly(tmp_path, train, whole, signum, workers):
    changes = {'train_dataloader__num_workers': workers, 'train_cfg__max_iters': 12}
    runner = train('cut', At(before_train_iter=(6, send(signum))), stopped=signum, **changes)
    saved = tmp_path / 'cut/iter_7.pth'
    assert names(tmp_path / 'cut') == ['iter_7.pth']
    assert (tmp_path / 'cut/last_checkpoint').read_text() == str(saved)
    assert load(saved)['meta']['iter'] == 7
    name = 'Ctrl-C' if signum == signal.SIGINT else signum.name
    assert f'Stopped by {name} after iteration 7: saved {saved}; the same command with --resume' in log_of(runner)
    train('cut', resume='auto', **changes)
    assert_same_training(whole, load(tmp_path / 'cut/iter_12.pth'))


def test_validation_is_left_and_what_was_trained_is_saved(tmp_path, train):
    batches = []
    count, stop = At(after_val_iter=(1, batches.append)), At(after_val_iter=(0, SIGTERM))
    changes = {'default_hooks__checkpoint__interval': 100, 'train_cfg__val_interval': 5}
    train('a', stop, count, stopped=signal.SIGTERM, **changes)
    assert batches == []
    checkpoint = load(tmp_path / 'a/iter_5.pth')
    assert checkpoint['meta']['iter'] == checkpoint['param_schedulers'][0]['last_step'] == 5
    assert train('a', resume='auto', train_cfg__max_iters=6, **changes).iter == 6


def test_a_checkpoint_of_this_step_is_not_written_again(tmp_path, train):
    """While it saves at its interval, and in the validation of the same iteration."""
    writes = []

    class Count(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            writes.append(runner.iter + 1)

    for name, point in (('a', {'before_save_checkpoint': (9, SIGUSR1)}), ('b', {'after_val_iter': (0, SIGUSR1)})):
        train(name, At(**point), Count(), stopped=signal.SIGUSR1)
        assert load(tmp_path / name / 'iter_10.pth')['meta']['iter'] == 10
    assert writes == [10, 10]


@pytest.mark.parametrize('hook', ['mmmim.CheckpointHook', 'mmengine.CheckpointHook', None])
def test_other_checkpoint_hooks(tmp_path, train, hook):
    """Outdated checkpoints go as ever."""
    settings = {'type': hook, 'by_epoch': False, 'interval': 2, 'max_keep_ckpts': 1}
    changes = {'default_hooks__checkpoint': {'_delete_': True, **settings} if hook else None}
    runner = train('a', At(before_train_iter=(2, SIGTERM)), stopped=signal.SIGTERM, **changes)
    assert names(tmp_path / 'a') == (['iter_3.pth'] if hook else [])
    assert hook or 'after iteration 3: nothing was saved' in log_of(runner)


def test_epoch_loops_save_within_an_epoch(tmp_path, train):
    """8 iterations are an epoch."""
    changes = {
        'train_cfg': {'_delete_': True, 'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 2, 'val_interval': 10},
        'train_dataloader__sampler': {'_delete_': True, 'type': 'mmengine.DefaultSampler', 'shuffle': True},
        'default_hooks__checkpoint': {'by_epoch': True, 'interval': 1, 'max_keep_ckpts': 1},
    }
    train('a', At(before_train_iter=(10, SIGTERM)), stopped=signal.SIGTERM, **changes)
    assert names(tmp_path / 'a') == ['epoch_1.pth', 'iter_11.pth']
    meta = load(tmp_path / 'a/iter_11.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 11)
    assert (tmp_path / 'a/last_checkpoint').read_text().endswith('iter_11.pth')


@pytest.mark.parametrize(
    ('point', 'signum', 'message', 'saved'),
    [
        ({'before_train': (None, SIGTERM)}, 15, 'SIGTERM: no training was running, so there is nothing', []),
        ({'after_train': (None, SIGTERM)}, 15, 'SIGTERM came when the training was finished', [10, 20]),
        ({'after_test_iter': (0, SIGUSR1)}, 10, 'stopped by SIGUSR1', []),
    ],
)  # fmt: skip
def test_where_no_step_runs_it_ends_at_once(tmp_path, capsys, point, signum, message, saved):
    beyond = []
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.register_hook(At(**point))
    runner.register_hook(At(after_test_iter=(1, beyond.append)))
    with pytest.raises(SystemExit) as end, user_errors():
        runner.test() if 'after_test_iter' in point else runner.train()
    assert end.value.code == 128 + signum
    assert message in capsys.readouterr().err
    assert names(tmp_path) == [f'iter_{number}.pth' for number in saved]
    assert not beyond


def test_a_killed_worker_is_one_sentence(tmp_path, capsys):
    def kill(runner):
        os.kill(runner.train_loop.dataloader_iterator._iterator._workers[0].pid, signal.SIGKILL)

    cfg = toy_config(tmp_path, train_dataloader__num_workers=1, train_cfg__max_iters=100000)
    with pytest.raises(SystemExit) as end, user_errors():
        start(cfg, At(before_train_iter=(3, kill)))
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith('error: A worker of a data loader (process ')
    assert message.count('\n') == 1


def test_launchers_that_are_not_there(tmp_path, monkeypatch):
    def refused(launcher, message):
        with pytest.raises(InputError, match=message):
            Runner.from_cfg(toy_config(tmp_path, launcher=launcher))

    for name in [name for name in os.environ if name.startswith(('SLURM_', 'OMPI_'))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    refused('slurm', r'slurm_train\.sh.*leave it out.*SLURM_PROCID')
    refused('mpi', r'mpirun.*OMPI_COMM_WORLD_RANK')
    refused('pytorch', r'needs torchrun.*tools/dist_train\.sh CONFIG GPUS.*RANK')
    for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setattr(sys.modules['mmmim.engine.runner'], 'get_device', lambda: 'cpu')
    refused('slurm', r'gives every process a GPU.*tools/dist_train\.sh')


def test_more_processes_than_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    address = {'MASTER_ADDR': 'localhost', 'MASTER_PORT': '29500', 'WORLD_SIZE': '4', 'RANK': '2'}
    for key, value in {'LOCAL_RANK': '2', 'LOCAL_WORLD_SIZE': '4', **address}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=r'4 processes were started.*2 GPU'):
        Runner.from_cfg(toy_config(tmp_path, launcher='pytorch'))
