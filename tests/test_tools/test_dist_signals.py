"""Signals to trainings of two processes, by the scripts that users start them with."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.processes import children, gone
from tests.test_engine import toy_training
from tests.test_tools.test_dist_scripts import TOOLS, TOY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU machine the processes would use GPUs'),
]
ITERATIONS = 80
CHANGES = f"""
custom_hooks.append(dict(type='mmmim.SlowHook'))
train_cfg['max_iters'] = {ITERATIONS}
train_cfg['val_interval'] = 1000
default_hooks['checkpoint']['interval'] = 1000
default_hooks['logger']['interval'] = 5
train_dataloader['num_workers'] = 1
"""
FSDP = ['--cfg-options', 'strategy.type=mmmim.FSDP2Strategy']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('signals')
    (path / 'toy.py').write_text(toy_training.CONFIG + CHANGES + 'strategy = dict(type=None)\n')
    return path


def start(folder, work_dir, *args):
    env = {**os.environ, 'PYTHONPATH': str(TOY), 'PYTHON': sys.executable}
    command = [str(TOOLS / 'dist_train.sh'), 'toy.py', '2', '--work-dir', work_dir, *args]
    with open(folder / f'{work_dir}.txt', 'a') as file:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=subprocess.STDOUT)


def training(folder, work_dir, *args):
    """The launcher, when the first iterations are logged."""
    process = start(folder, work_dir, *args)
    until = time.monotonic() + 200
    while 'Iter(train)' not in text(folder, work_dir) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert process.poll() is None, text(folder, work_dir)
    return process


def text(folder, work_dir):
    return (folder / f'{work_dir}.txt').read_text()


def ranks(process):
    return children(process.pid)


def workers(process):
    return [worker for rank in ranks(process) for worker in children(rank)]


@pytest.fixture(scope='module')
def whole(folder):
    """Uninterrupted trainings: in data parallelism, and of a divided model."""
    found = {}
    for name, args in {'whole': [], 'whole_fsdp': FSDP}.items():
        assert start(folder, name, *args).wait(300) == 0, text(folder, name)
        found[name] = torch.load(folder / name / f'iter_{ITERATIONS}.pth', weights_only=True)
    return found


def to_launcher(process, signum):
    process.send_signal(signum)


def to_rank_1(process, signum):
    os.kill(ranks(process)[1], signum)


def to_all_in_turn(process, signum):
    """As a scheduler does, workers too; not at one iteration."""
    for pid in [*workers(process), *ranks(process)]:
        os.kill(pid, signum)
        time.sleep(0.02)


@pytest.mark.parametrize(
    ('send', 'signum', 'args'),
    [
        (to_launcher, signal.SIGTERM, []),
        (to_rank_1, signal.SIGTERM, []),
        (to_all_in_turn, signal.SIGUSR1, []),
        (to_launcher, signal.SIGINT, []),
        (to_launcher, signal.SIGUSR1, FSDP),
        (to_rank_1, signal.SIGUSR1, FSDP),
    ],
)
def test_all_stop_at_one_step_and_resume_exactly(folder, whole, send, signum, args):
    name = f'{send.__name__}_{signum}_{len(args)}'
    process = training(folder, name, *args)
    send(process, signum)
    assert process.wait(120) == 128 + signum, text(folder, name)
    output = text(folder, name)
    assert 'Traceback' not in output
    assert 'ConnectionResetError' not in output
    (step,) = map(int, re.findall(r'Stopped by \S+ after iteration (\d+): saved', output))
    assert step < ITERATIONS
    assert [path.name for path in (folder / name).glob('*.pth')] == [f'iter_{step}.pth']
    assert start(folder, name, '--resume', *args).wait(200) == 0, text(folder, name)
    resumed = torch.load(folder / name / f'iter_{ITERATIONS}.pth', weights_only=True)
    uninterrupted = whole['whole_fsdp' if args else 'whole']
    for key, value in uninterrupted['state_dict'].items():
        assert torch.equal(resumed['state_dict'][key], value), key
    for index, state in uninterrupted['optimizer']['state'].items():
        for key, value in state.items():
            assert torch.equal(resumed['optimizer']['state'][index][key], value), (index, key)


def test_a_killed_process_is_one_sentence(folder):
    process = training(folder, 'killed')
    pids = ranks(process) + workers(process)
    os.kill(ranks(process)[1], signal.SIGKILL)
    assert process.wait(60) == 1
    output = text(folder, 'killed')
    assert 'Traceback' not in output
    assert output.count('error: process 1 was ended by SIGKILL') == 1
    assert all(map(gone, pids))


def test_a_killed_launcher_leaves_nothing_behind_and_loses_nothing(folder):
    process = training(folder, 'orphans')
    pids = ranks(process) + workers(process)
    process.kill()
    process.wait()
    assert all(gone(pid, 60) for pid in pids)
    (step,) = re.findall(r'after iteration (\d+): saved', text(folder, 'orphans'))
    assert (folder / 'orphans' / f'iter_{step}.pth').exists()
