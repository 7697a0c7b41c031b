"""What tells of a training does not end it: logs, trackers, pictures and probes."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend
from toy_training import toy_config

from mmmim.engine import Runner
from mmmim.engine.hooks.curves_hook import CurvesHook
from mmmim.engine.reporting import keep_logging, reserve_folder
from mmmim.utils import InputError


@VISBACKENDS.register_module(force=True)
class FailingTracker(BaseVisBackend):
    """Fails in every call, as one whose server cannot be reached."""

    error: Exception = ConnectionError('no route to host')

    @property
    def experiment(self):
        return self

    def _init_env(self):
        pass

    def fail(self, *args, **kwargs):
        raise self.error

    add_config = add_graph = add_image = add_scalar = add_scalars = close = fail


def runner_of(work_dir, *hooks, **changes):
    cfg = toy_config(work_dir, train_cfg__max_iters=20, **changes)
    cfg.custom_hooks = cfg.custom_hooks[:2]
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook, 'LOWEST')
    return runner


def messages(runner, capsys):
    shown = capsys.readouterr()
    return [line for line in (shown.out + shown.err).splitlines() if 'WARNING' in line]


@pytest.mark.parametrize('error', [ConnectionError('no route'), OSError(errno.ENOSPC, 'No space left'), KeyError('x')])
def test_a_failing_tracker(tmp_path, monkeypatch, capsys, error):
    monkeypatch.setattr(FailingTracker, 'error', error)
    backends = [{'type': 'FailingTracker'}, {'type': 'mmengine.LocalVisBackend'}]
    runner = runner_of(tmp_path, visualizer={'type': 'mmengine.Visualizer', 'vis_backends': backends})
    runner.train()
    warnings = messages(runner, capsys)
    assert sum('The tracker FailingTracker failed (add_scalars' in line for line in warnings) == 1
    assert not any('Traceback' in line for line in warnings)
    rows = Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()  # the other one has all values
    assert len(rows) == 4 + 2
    assert (tmp_path / 'iter_20.pth').exists()


def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    visualizer = {'type': 'mmengine.Visualizer', 'vis_backends': [{'type': 'mmengine.WandbVisBackend'}]}
    with pytest.raises(InputError, match=r'WandbVisBackend needs .* pip install wandb, or remove the backend'):
        runner_of(tmp_path, visualizer=visualizer)


@pytest.mark.parametrize('backend', ['Tensorboard', 'MLflow', 'ClearML', 'Neptune', 'DVCLive', 'Aim'])
def test_other_trackers_that_are_not_installed(tmp_path, monkeypatch, backend):
    for name in ('torch.utils.tensorboard', 'tensorboardX', 'mlflow', 'clearml', 'neptune', 'dvclive', 'aim'):
        monkeypatch.setitem(sys.modules, name, None)
    visualizer = {'type': 'mmengine.Visualizer', 'vis_backends': [{'type': f'mmengine.{backend}VisBackend'}]}
    with pytest.raises(InputError, match=rf'{backend}VisBackend needs a package.*pip install .*{backend.lower()}'):
        runner_of(tmp_path, visualizer=visualizer)


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
    [warning] = [line for line in messages(runner, capsys) if 'FailingReport' in line]
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
    """A folder in the place of each file that is written beside the checkpoints."""
    for name in ('curves.png', 'probes.json', 'health.png'):
        (tmp_path / name).mkdir()
    runner = runner_of(tmp_path, CurvesHook(interval=5))
    local = runner.visualizer.get_backend('LocalVisBackend')
    os.remove(local._scalar_save_file) if os.path.exists(local._scalar_save_file) else None
    os.mkdir(local._scalar_save_file)
    runner.train()
    assert (tmp_path / 'iter_20.pth').exists()
    warnings = messages(runner, capsys)
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


DISK = """
import sys
sys.path.insert(0, {tests!r})
from toy_training import toy_config
from mmmim.engine import Runner
from mmmim.cli.program import user_errors
import os

@user_errors()
def run():
    work_dir, fill_at = sys.argv[1], int(sys.argv[2])
    cfg = toy_config(work_dir, train_cfg__max_iters=99, resume=len(sys.argv) > 3 and 'auto')
    cfg.default_hooks.checkpoint = dict(type='mmmim.CheckpointHook', by_epoch=False, interval=50, save_last=False)
    cfg.default_hooks.logger.interval = 1
    runner = Runner.from_cfg(cfg)
    step = runner.model.train_step
    def train_step(*args, **kwargs):
        if runner.iter == fill_at:
            with open(os.path.join(os.path.dirname(work_dir), 'filler'), 'wb', buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1024))
                except OSError:
                    pass
        return step(*args, **kwargs)
    runner.model.train_step = train_step
    runner.train()
    print('DONE', runner.iter, flush=True)
run()
"""


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)]
    if sys.platform != 'linux' or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small disk needs root')
    yield disk
    subprocess.run(['umount', '-l', str(disk)], check=True)


def run_on(disk, *args):
    code = DISK.format(tests=str(Path(__file__).parent))
    command = [sys.executable, '-c', code, str(disk / 'work'), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=disk.parent)
    return done.returncode, done.stdout, done.stderr


def test_a_disk_that_is_full_at_a_log_write(small_disk):
    """Filled after the last checkpoint, in the middle of logging: the training ends well, with warnings."""
    code, out, err = run_on(small_disk, 55)
    assert code == 0, out + err
    assert 'DONE 99' in out
    assert 'Traceback' not in out + err
    assert 'Logging error' not in out + err
    assert out.count('LocalVisBackend failed (add_scalars: no space left on device)') == 1
    assert err.count('.log cannot be written (no space left on device)') == 1
    # The same disk, still full: one sentence.
    code, out, err = run_on(small_disk, 999, 'resume')
    assert code == 2, out + err
    assert (
        err.strip().splitlines()[-1].startswith(f'error: The work folder {small_disk}/work cannot be written: no space')
    )
    assert 'Traceback' not in out + err
    assert 'Logging error' not in out + err


def test_a_folder_that_cannot_be_written(small_disk):
    (small_disk / 'work').mkdir()
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    with pytest.raises(InputError, match='work cannot be written: read-only file system'):
        reserve_folder(str(small_disk / 'work'), 'x')
    with pytest.raises(InputError, match='cannot be written: read-only file system'):
        Runner.from_cfg(toy_config(small_disk / 'work'))
    with pytest.raises(InputError, match='new cannot be made: read-only file system'):
        Runner.from_cfg(toy_config(small_disk / 'new'))
