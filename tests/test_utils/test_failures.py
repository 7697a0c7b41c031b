"""Failures of the machine are one sentence with the remedy."""

import os
import subprocess
import sys
from multiprocessing.resource_sharer import _ResourceSharer
from pathlib import Path

import pytest
import torch

from mmmim.utils.failures import explain

REPOSITORY = Path(__file__).parents[2]
KILLED = 'DataLoader worker (pid 7) is killed by signal: Killed. '
BUS = (
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    'shared memory. Please try to raise your shared memory limit.'
)
SHM = 'unable to write to file </torch_12_34_0>: No space left on device (28)'


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (RuntimeError(KILLED), ['process 7', 'Killed', 'memory', 'num_workers=0', '--resume']),
        (RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'), ['7, 8', 'memory', '--resume']),
        (RuntimeError(BUS), ['/dev/shm', '--shm-size', 'num_workers=0', '--resume']),
        (RuntimeError(f'Caught RuntimeError in DataLoader worker process 0.\n{SHM}'), ['/dev/shm', '--shm-size']),
        (
            RuntimeError('DataLoader worker (pid 7) exited unexpectedly with exit code 74. Details are lost'),
            ['/dev/shm', '--shm-size'],
        ),
        (RuntimeError('received 0 items of ancdata'), ['ulimit -n', 'num_workers=0']),
        (OSError(24, 'Too many open files'), ['ulimit -n', 'num_workers=0']),
        (
            RuntimeError(
                '[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1'
            ),
            ['another process', '--resume'],
        ),
        (torch.distributed.DistBackendError('NCCL: remote process exited or network error'), ['another process']),
    ],
)
def test_sentences(error, words):
    message = explain(error)
    assert message.count('\n') == 0
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('shape mismatch'),
        RuntimeError('Caught ValueError in DataLoader worker process 0.\nOriginal Traceback\nValueError: a bug'),
        OSError(28, 'No space left on device', 'work_dirs/x.pth'),
        ValueError('Connection closed by peer'),
    ],
)
def test_other_errors_keep_their_trace(error):
    assert explain(error) is None


def test_causes_count():
    error = RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly')
    error.__cause__ = RuntimeError(BUS)
    assert '/dev/shm' in explain(error)


def test_a_batch_of_a_dead_worker():
    with pytest.raises(FileNotFoundError) as dead:
        _ResourceSharer.get_connection((f'{REPOSITORY}/no_such_socket', 1))
    assert explain(dead.value).startswith('A worker of a data loader')
    text = 'Caught ConnectionResetError in pin memory thread.\n  File "multiprocessing/resource_sharer.py", line 57'
    assert explain(ConnectionResetError(text)).startswith('A worker of a data loader')
    assert explain(ConnectionResetError(104, 'Connection reset by peer')) is None


SCRIPT = """
import sys
from mmmim.cli.program import user_errors
with user_errors():
    import torch
    from torch.utils.data import DataLoader
    from mmmim.utils.workers import outlived_by_parent
    # As single tensors, which the thread that sends them moves to shared memory, and as a batch made there.
    for collate in {'list': [list], 'batch': [None]}[sys.argv[1]]:
        for _ in outlived_by_parent(DataLoader(torch.zeros(8, 3, 224, 224), 4, num_workers=1, collate_fn=collate)):
            pass
"""


@pytest.mark.parametrize(('size', 'how'), [('64k', 'list'), ('64k', 'batch'), ('4k', 'list')])
def test_a_full_dev_shm(size, how):
    """A really small one, of this process alone."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm'
    if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True, check=False).returncode:
        pytest.skip('needs the right to mount')
    done = subprocess.run(
        ['unshare', '-m', 'sh', '-c', f'{mount} && exec "$@"', 'sh', sys.executable, '-c', SCRIPT, how],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, 'PYTHONPATH': str(REPOSITORY)},
    )
    assert done.returncode == 1, done.stderr
    # Some versions of torch say something of their own in the worker first.
    said = done.stderr[done.stderr.rindex('error: ') :]
    assert said.startswith('error: There is no shared memory left')
    assert said.count('\n') == 1
    assert 'Traceback' not in done.stderr
