"""One training in a folder at a time; processes are really started and killed."""

import errno
import json
import os
import signal
import socket
import time
from contextlib import contextmanager

import pytest

from mmmim.engine import Runner
from mmmim.utils import InputError, folder_lock
from mmmim.utils.folder_lock import LOCK, FolderLock, locked
from tests.processes import kill
from tests.runs import start
from tests.test_engine.toy_training import toy_config


@contextmanager
def child(function):
    """The id of a process that has run a function and then waits; it is killed at the end."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            function()
            os.write(writing, b'1')
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b'1'
    os.close(reading)
    try:
        yield process
    finally:
        kill(process)


def acquire(folder):
    with locked(folder):
        pass


def refused(folder, message):
    with pytest.raises(InputError, match=message):
        acquire(folder)


def sign(folder, **changes):
    about = {'host': socket.gethostname(), 'pid': os.getpid(), 'since': '2026-01-01 00:00:00 UTC', **changes}
    (folder / LOCK).write_text(json.dumps(about))


def test_free_again_at_every_end(tmp_path):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), locked(tmp_path):
            raise error
    assert os.listdir(tmp_path) == []


def test_refused_while_another_process_lives_and_free_when_it_is_killed(tmp_path):
    with child(lambda: FolderLock(tmp_path).acquire()) as holder:
        refused(tmp_path, rf'{tmp_path}.*process {holder} on {socket.gethostname()}, since 20.*--work-dir')
        with locked(tmp_path, force=True):
            assert json.loads((tmp_path / LOCK).read_text())['pid'] == os.getpid()
            refused(tmp_path, f'process {os.getpid()}')
    with child(lambda: FolderLock(tmp_path).acquire()):
        pass
    assert (tmp_path / LOCK).exists()  # nobody has tidied up
    acquire(tmp_path)
    assert os.listdir(tmp_path) == []


def test_workers_do_not_hold_it_when_their_process_is_killed(tmp_path):
    def with_worker():
        FolderLock(tmp_path).acquire()
        if (worker := os.fork()) == 0:
            time.sleep(60)
        (tmp_path / 'worker').write_text(str(worker))

    with child(with_worker):
        pass
    try:
        acquire(tmp_path)
    finally:
        os.kill(int((tmp_path / 'worker').read_text()), signal.SIGKILL)


@pytest.fixture(params=['locks', 'no locks'])
def file_system(request, monkeypatch):
    """With locks, and without: NFS without its lock service, or Windows."""
    if request.param == 'no locks':

        def flock(*args):
            raise OSError(errno.ENOLCK, 'No locks available')

        monkeypatch.setattr(folder_lock.fcntl, 'flock', flock)


def test_a_dead_process_of_this_machine(tmp_path, file_system):
    with child(lambda: None) as process:
        pass
    sign(tmp_path, pid=process)
    acquire(tmp_path)


def test_a_process_without_file_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, 'fcntl', None)
    with child(lambda: None) as process:
        sign(tmp_path, pid=process)
        refused(tmp_path, f'process {process}')
        old = time.time() - 1000  # another process has got its number since
        os.utime(tmp_path / LOCK, (old, old))
        acquire(tmp_path)


def test_another_machine(tmp_path, monkeypatch, capsys, file_system):
    """It is waited for, until it is taken for dead or gives a sign of life."""
    sign(tmp_path, host='node7', pid=4711)
    with monkeypatch.context() as patch:
        patch.setattr(folder_lock, 'DEAD_AFTER', 0.5)
        acquire(tmp_path)
    assert 'process 4711 on node7, since 2026-01-01' in capsys.readouterr().out

    sign(tmp_path, host='node7', pid=4711)
    then = time.time() + 1
    with monkeypatch.context() as patch:
        patch.setattr(time, 'sleep', lambda seconds: os.utime(tmp_path / LOCK, (then, then)))
        refused(tmp_path, r'node7.*--force-lock')
    with locked(tmp_path, force=True):
        pass


def test_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, 'HEARTBEAT', 0.05)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (1, 1))
        until = time.monotonic() + 5
        while (tmp_path / LOCK).stat().st_mtime == 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert (tmp_path / LOCK).stat().st_mtime > 1


def test_odd_files_in_its_place(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('mine')
    for make in (lambda path: path.symlink_to(victim), os.mkfifo):
        make(tmp_path / LOCK)
        refused(tmp_path, r'\.lock cannot be written')
        (tmp_path / LOCK).unlink()
    assert victim.read_text() == 'mine'
    for content in (b'', b'\xff\xff', b'{}', b'[1]', b'3'):
        (tmp_path / LOCK).write_bytes(content)
        acquire(tmp_path)


def test_two_trainings_in_one_folder(tmp_path):
    cfg = toy_config(tmp_path / 'a', train_cfg__max_iters=2)
    cfg.custom_hooks = []
    for folder in (tmp_path / 'a', tmp_path / 'disk/a'):
        folder.mkdir(parents=True, exist_ok=True)
        cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'disk')  # where two work folders may meet
        with child(lambda folder=folder: FolderLock(folder).acquire()) as holder:
            with pytest.raises(InputError, match=rf'{folder} is in use by another training, process {holder}'):
                start(cfg)
            assert not list(folder.glob('*.p*'))
    start(cfg)
    assert not list(tmp_path.rglob(LOCK))


def test_two_runs_in_one_second_have_a_log_each(tmp_path, monkeypatch):
    monkeypatch.setattr(time, 'strftime', lambda *args: '20260101_000000')
    runners = [Runner.from_cfg(toy_config(tmp_path)) for _ in range(2)]
    assert [os.path.basename(runner.log_dir) for runner in runners] == ['20260101_000000', '20260101_000000_1']
