"""What tells of a training does not end it: logs, trackers, pictures and probes."""

import errno
import logging
import os
import subprocess
import sys

import pytest
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

from mmmim.cli.program import user_errors
from mmmim.engine import Runner
from mmmim.engine.hooks.curves_hook import CurvesHook
from mmmim.engine.reporting import keep_logging, reserve_folder
from mmmim.utils import InputError
from tests.processes import start, wait
from tests.runs import At, rows_of
from tests.test_engine.toy_training import toy_config


@VISBACKENDS.register_module(force=True)
class FailingTracker(BaseVisBackend):
    error = ConnectionError('no route to host')

    @property
    def experiment(self):
        return self

    def _init_env(self):
        pass

    def fail(self, *args, **kwargs):
        raise self.error

    add_config = add_graph = add_image = add_scalar = add_scalars = close = fail


def runner_of(work_dir, *hooks, backend=None, **changes):
    if backend is not None:
        backends = [{'type': backend}, {'type': 'mmengine.LocalVisBackend'}]
        changes['visualizer'] = {'type': 'mmengine.Visualizer', 'vis_backends': backends}
    cfg = toy_config(work_dir, **changes)
    cfg.custom_hooks = cfg.custom_hooks[:2]
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook, 'LOWEST')
    return runner


def warnings_shown(capsys):
    shown = capsys.readouterr()
    return [line for line in (shown.out + shown.err).splitlines() if 'WARNING' in line]


@pytest.mark.parametrize('error', [KeyError('x'), OSError(errno.ENOSPC, 'No space left')])
def test_a_failing_tracker(tmp_path, monkeypatch, capsys, error):
    monkeypatch.setattr(FailingTracker, 'error', error)
    runner = runner_of(tmp_path, backend='FailingTracker')
    runner.train()
    warnings = warnings_shown(capsys)
    assert sum('The tracker FailingTracker failed (add_scalars' in line for line in warnings) == 1
    assert not any('Traceback' in line for line in warnings)
    assert len(rows_of(runner)) == 4 + 2  # the other one has all values
    assert (tmp_path / 'iter_20.pth').exists()


@pytest.mark.parametrize('name', ['Wandb', 'Tensorboard', 'MLflow', 'ClearML', 'Neptune', 'DVCLive', 'Aim'])
def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch, name):
    for module in (
        'wandb',
        'torch.utils.tensorboard',
        'tensorboardX',
        'mlflow',
        'clearml',
        'neptune',
        'dvclive',
        'aim',
    ):
        monkeypatch.setitem(sys.modules, module, None)
    words = rf'{name}VisBackend needs a package.*pip install .*{name.lower()}.*, or remove the backend'
    with pytest.raises(InputError, match=words):
        runner_of(tmp_path, backend=f'mmengine.{name}VisBackend')


class Fails(Hook):
    def __init__(self, when, error=None):
        setattr(self, when, self.fail)
        self.error = ZeroDivisionError('a bug') if error is None else error

    def fail(self, *args, **kwargs):
        raise self.error


class FailingReport(Fails):
    only_reports = True


@pytest.mark.parametrize('when', ['after_train_iter', 'after_val_epoch', 'after_train'])
def test_a_failing_report_is_a_warning_once(tmp_path, capsys, when):
    runner = runner_of(tmp_path, FailingReport(when))
    runner.train()
    assert runner.iter == 20
    [warning] = [line for line in warnings_shown(capsys) if 'FailingReport' in line]
    assert f'FailingReport failed ({when}: ZeroDivisionError: a bug)' in warning


def test_what_still_ends_a_training(tmp_path):
    """Hooks that do more than report; what hooks end on purpose; what is wrong before the first step."""
    for hook, error in (
        (Fails('after_train_iter'), ZeroDivisionError),
        (FailingReport('after_train_iter', InputError('enough')), InputError),
        (FailingReport('before_train'), ZeroDivisionError),
        (FailingReport('after_train_iter', KeyboardInterrupt()), KeyboardInterrupt),
    ):
        with pytest.raises(error):
            runner_of(tmp_path, hook).train()


def test_pictures_and_logs_that_cannot_be_made(tmp_path, capsys, monkeypatch):
    for name in ('curves.png', 'probes.json', 'health.png'):
        (tmp_path / name).mkdir()
    runner = runner_of(tmp_path, CurvesHook(interval=5))
    os.makedirs(runner.visualizer.get_backend('LocalVisBackend')._scalar_save_file)
    runner.train()
    assert (tmp_path / 'iter_20.pth').exists()
    warnings = warnings_shown(capsys)
    assert sum('LocalVisBackend failed (add_scalars: is a directory)' in line for line in warnings) == 1


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_log_on_a_full_disk(tmp_path, capfd):
    (tmp_path / 'a.log').symlink_to('/dev/full')
    logger = logging.Logger('full')
    handler = logging.FileHandler(tmp_path / 'a.log')
    keep_logging(handler)
    logger.addHandler(handler)
    for _ in range(5):
        logger.warning('a line')
    shown = capfd.readouterr().err
    assert shown.count('\n') == 1
    assert f'WARNING: {tmp_path}/a.log cannot be written (no space left on device)' in shown


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)]
    if sys.platform != 'linux' or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small disk needs root')
    yield disk
    subprocess.run(['umount', '-l', str(disk)], check=True)


def train_on(disk, **changes):
    """Trains with all room of the disk taken before iteration 55, after a checkpoint; status and what was said."""

    def fill(runner):
        with open(disk / 'filler', 'wb', buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1024))
            except OSError:
                pass

    @user_errors()
    def run():
        checkpoint = dict(type='mmmim.CheckpointHook', by_epoch=False, interval=50, save_last=False)
        cfg = toy_config(disk / 'work', train_cfg__max_iters=99, default_hooks__logger__interval=1, **changes)
        cfg.default_hooks.checkpoint = checkpoint
        runner = Runner.from_cfg(cfg)
        runner.register_hook(At(before_train_iter=(55, fill)))
        runner.train()
        print('DONE', runner.iter, flush=True)

    status = wait(start(run, disk.parent / 'said'))
    said = (disk.parent / 'said').read_text()
    (disk.parent / 'said').unlink()
    assert 'Traceback' not in said
    assert 'Logging error' not in said
    return status, said


def test_a_disk_that_is_full_at_a_log_write(small_disk):
    """In the middle of logging: the training ends well, with warnings."""
    status, said = train_on(small_disk)
    assert status == 0, said
    assert 'DONE 99' in said
    assert said.count('LocalVisBackend failed (add_scalars: no space left on device)') == 1
    assert said.count('.log cannot be written (no space left on device)') == 1
    # The same disk, still full: one sentence.
    status, said = train_on(small_disk, resume='auto')
    assert status == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f'error: The work folder {small_disk}/work cannot be written: no space')


def test_a_folder_that_cannot_be_written(small_disk):
    (small_disk / 'work').mkdir()
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    with pytest.raises(InputError, match='work cannot be written: read-only file system'):
        reserve_folder(str(small_disk / 'work'), 'x')
    for name, message in (('work', 'cannot be written'), ('new', 'new cannot be made')):
        with pytest.raises(InputError, match=f'{message}: read-only file system'):
            Runner.from_cfg(toy_config(small_disk / name))
