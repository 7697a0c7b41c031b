"""What signals do to a process, and to the workers that it has; without torch where possible."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mmmim.utils.workers import outlived_by_parent
from tests.paths import ROOT
from tests.processes import children, gone

# Blocks in C for ever, and not to be interrupted: the second lock of a mutex.
STUCK = 'm = ctypes.create_string_buffer(64); c = ctypes.CDLL(None); c.pthread_mutex_lock(m); c.pthread_mutex_lock(m)'
IMPORTS = (
    'import ctypes, os, signal, time\nfrom mmmim.utils import signals\nfrom mmmim.cli.program import user_errors\n'
)


def process_of(code, **env):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **env}
    command = [sys.executable, '-c', code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def start(body):
    """A process that runs ``body`` after saying that it is ready."""
    process = process_of(IMPORTS + body)
    assert process.stdout.readline() == 'ready\n'
    return process


def end(process, seconds=20):
    out, err = process.communicate(timeout=seconds)
    assert 'Traceback' not in err
    return process.returncode, out, err


def test_a_tool_ends_with_its_status():
    signums = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    body = "with user_errors():\n    print('ready', flush=True)\n    time.sleep(30)"
    for process, signum in [(start(body), signum) for signum in signums]:
        process.send_signal(signum)
        code, _, err = end(process)
        assert code == 128 + signum
        assert err.count('\n') == 1
        assert err.startswith('stopped by ')


@pytest.mark.parametrize('wait', ['time.sleep(30)', STUCK])
def test_a_second_ctrl_c_stops_at_once(wait):
    body = f"with user_errors(), signals.training():\n    signals.defer()\n    print('ready', flush=True)\n    {wait}"
    process = start(body)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 130
    assert time.monotonic() - began < 5
    assert 'Ctrl-C twice: stopped at once' in err


def test_a_start_that_is_stuck_in_a_library_ends():
    body = f"signals.GRACE = 0.5\nwith user_errors():\n    print('ready', flush=True)\n    {STUCK}"
    process = start(body)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143


def test_signals_that_were_ignored_stay_ignored():
    body = (
        'signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
        "with user_errors():\n    print('ready', flush=True)\n    time.sleep(0.5)\nprint('whole')"
    )
    process = start(body)
    process.send_signal(signal.SIGHUP)
    assert end(process)[:2] == (0, 'whole\n')


def test_a_forked_process_does_not_speak_for_its_parent():
    body = (
        'with user_errors(), signals.training():\n    signals.defer()\n    pid = os.fork()\n'
        "    if not pid:\n        time.sleep(0.2)\n        os.write(1, b'ready\\n')\n"
        '        time.sleep(1)\n        os._exit(7)\n'
        '    _, status = os.waitpid(pid, 0)\n    print(os.waitstatus_to_exitcode(status), signals.requested())'
    )
    process = start(body)
    (child,) = children(process.pid)
    for _ in range(3):
        os.kill(child, signal.SIGINT)
        time.sleep(0.1)
    assert end(process)[:2] == (0, '7 0\n')


def test_a_rank_outlives_its_launcher_only_to_save():
    """The kernel tells it, whatever ended the launcher."""
    rank = f"{IMPORTS}with user_errors():\n    print('ready', flush=True)\n    time.sleep(30)"
    launcher = (
        'import subprocess, sys, time\n'
        f'p = subprocess.Popen([sys.executable, "-c", {rank!r}])\nprint(p.pid, flush=True)\ntime.sleep(30)'
    )
    process = process_of(launcher, TORCHELASTIC_RUN_ID='x')
    rank = int(process.stdout.readline())
    assert process.stdout.readline() == 'ready\n'
    process.kill()
    process.wait()
    assert gone(rank)


class Numbers(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return torch.tensor(index)


def _read_for_ever(pipe):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    loader = outlived_by_parent(DataLoader(Numbers(), 2, num_workers=1))
    batches = iter(loader)
    next(batches)
    pipe.send(batches._workers[0].pid)
    time.sleep(60)


def test_workers_do_not_outlive_their_parent():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context('fork').Process(target=_read_for_ever, args=(theirs,))
    process.start()
    worker = ours.recv()
    process.kill()
    process.join()
    # torch's own workers look for their parent every five seconds.
    assert gone(worker, 2)


def test_workers_leave_signals_to_their_parent(tmp_path):
    """And call the user's function."""

    def note(worker_id):
        (tmp_path / 'note').write_text(str(worker_id))

    loader = outlived_by_parent(DataLoader(Numbers(), 2, num_workers=1, worker_init_fn=note))
    batches = iter(loader)
    next(batches)
    worker = batches._workers[0]
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        # As of a scheduler or a terminal: not sent by the parent.
        subprocess.run(['/bin/sh', '-c', f'kill -{int(signum)} {worker.pid}'], check=True)
    assert [next(batches).tolist() for _ in range(20)][-1] == [40, 41]
    assert (tmp_path / 'note').read_text() == '0'
    worker.terminate()  # by the parent
    worker.join(5)
    assert worker.exitcode == 0


def test_a_comparison_stops_its_trainings(tmp_path):
    code = f"""
from pathlib import Path
from mmmim.comparison.jobs import Job, run_jobs
from mmmim.cli.program import user_errors
sleep = [[{sys.executable!r}, '-c', 'import time; print("here", flush=True); time.sleep(100)']]
with user_errors():
    run_jobs([Job('single', str(i), 0, Path({str(tmp_path)!r}, str(i)), sleep) for i in range(3)], 2)
"""
    process = process_of(code)
    logs = [tmp_path / str(i) / 'log.txt' for i in range(2)]
    until = time.monotonic() + 60
    while not all(log.exists() and 'here' in log.read_text() for log in logs) and time.monotonic() < until:
        time.sleep(0.05)
    jobs = children(process.pid)
    assert len(jobs) == 2
    process.terminate()
    assert end(process)[0] == 143
    assert all(map(gone, jobs))
    assert not (tmp_path / '2').exists()
