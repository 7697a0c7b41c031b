"""Failures of the machine are one sentence with the remedy."""

import os
import subprocess
import sys
from multiprocessing.resource_sharer import _ResourceSharer

import pytest
import torch

from mmmim.utils.failures import explain
from tests.paths import ROOT

KILLED = 'DataLoader worker (pid 7) is killed by signal: Killed. '
BUS = (
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    'shared memory. Please try to raise your shared memory limit.'
)
SHM = 'unable to write to file </torch_12_34_0>: No space left on device (28)'


CAUSED = RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly')
CAUSED.__cause__ = RuntimeError(BUS)


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (RuntimeError(KILLED), ['process 7', 'Killed', 'memory', 'num_workers=0', '--resume']),
        (RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'), ['7, 8', 'memory', '--resume']),
        (RuntimeError(BUS), ['/dev/shm', '--shm-size', 'num_workers=0', '--resume']),
        (CAUSED, ['/dev/shm']),
        (RuntimeError(f'Caught RuntimeError in DataLoader worker process 0.\n{SHM}'), ['/dev/shm', '--shm-size']),
        (RuntimeError('DataLoader worker (pid 7) exited unexpectedly with exit code 74. Details'), ['/dev/shm']),
        (RuntimeError('received 0 items of ancdata'), ['ulimit -n', 'num_workers=0']),
        (OSError(24, 'Too many open files'), ['ulimit -n', 'num_workers=0']),
        (RuntimeError('[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1'), ['another process']),
        (torch.distributed.DistBackendError('NCCL: remote process exited or network error'), ['another process']),
        (RuntimeError('shape mismatch'), None),
        (RuntimeError('Caught ValueError in DataLoader worker process 0.\nOriginal Traceback\nValueError: bug'), None),
        (OSError(28, 'No space left on device', 'work_dirs/x.pth'), None),
        (ValueError('Connection closed by peer'), None),
    ],
)
def test_sentences(error, words):
    """Other errors keep their trace."""
    message = explain(error)
    assert (message is None) == (words is None)
    assert words is None or message.count('\n') == 0
    assert all(word in message for word in words or ())


def test_a_batch_of_a_dead_worker():
    with pytest.raises(FileNotFoundError) as dead:
        _ResourceSharer.get_connection((f'{ROOT}/no_such_socket', 1))
    assert explain(dead.value).startswith('A worker of a data loader')
    text = 'Caught ConnectionResetError in pin memory thread.\n  File "multiprocessing/resource_sharer.py", line 57'
    assert explain(ConnectionResetError(text)).startswith('A worker of a data loader')
    assert explain(ConnectionResetError(104, 'Connection reset by peer')) is None


#: Tensors one by one, which the thread that sends them moves to shared memory; a batch made there; not even a lock.
SCRIPT = """
import os, subprocess, sys
import torch
from torch.utils.data import DataLoader
from mmmim.cli.program import user_errors
from mmmim.utils.workers import outlived_by_parent
for size, collate in (('64k', list), ('64k', None), ('4k', list)):
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', '/dev/shm'], check=True)
    child = os.fork()
    if not child:
        with user_errors():
            for _ in outlived_by_parent(DataLoader(torch.zeros(8, 3, 224, 224), 4, num_workers=1, collate_fn=collate)):
                pass
        sys.exit()
    print('status', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


def test_a_full_dev_shm():
    """A really small one, of this process alone."""
    command = ['unshare', '-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/dev/shm']
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip('needs the right to mount')
    command = ['unshare', '-m', sys.executable, '-c', SCRIPT]
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True, env=env)
    assert 'Traceback' not in done.stderr
    *cases, rest = done.stderr.split('status 1\n')
    assert (len(cases), rest) == (3, '')
    for said in cases:
        # Some versions of torch say something of their own in the worker first.
        said = said[said.rindex('error: ') :]
        assert said.startswith('error: There is no shared memory left')
        assert said.count('\n') == 1
