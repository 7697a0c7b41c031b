"""A training on a disk that is full after so many bytes."""

import os
import subprocess
import sys

import pytest

from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.folder import CheckpointFolder
from mmmim.cli.program import user_errors
from tests import runs
from tests.processes import start, wait
from tests.test_engine.toy_training import toy_config

pytestmark = pytest.mark.slow
POSITIONS, SIZE = 30, 3 * 2**20


@pytest.fixture
def disk(tmp_path):
    """A disk of 3 MB."""
    path = tmp_path / 'disk'
    path.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'tmpfs', str(path)]
    if sys.platform != 'linux' or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small disk needs root')
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


def train(work_dir, keep):
    cfg = toy_config(work_dir, train_cfg__max_iters=6, model__width=4_000, resume='auto')
    cfg.default_hooks.checkpoint = {
        'type': 'mmmim.CheckpointHook', 'by_epoch': False, 'interval': 1, 'max_keep_ckpts': keep,
        'save_best': 'error', 'rule': 'less',
    }  # fmt: skip
    cfg.default_hooks.logger.interval = 1
    cfg.train_cfg.val_interval = 2
    with user_errors():
        runs.start(cfg)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The last checkpoint of a training with enough room."""
    folder = tmp_path_factory.mktemp('whole')
    assert wait(start(lambda: train(folder / 'work', 1), folder / 'log')) == 0
    return load_checkpoint_file(folder / 'work/iter_6.pth')


@pytest.mark.parametrize('position', range(POSITIONS))
def test_full_after(disk, whole, tmp_path, position):
    """One sentence or a whole training; what was saved loads; with room, the training goes on to the same end."""
    keep = 1 + position % 2
    room = SIZE * position // POSITIONS
    with open(disk / 'filler', 'wb') as file:
        file.write(bytes(SIZE - room))
    log = tmp_path / 'log'

    def run():
        train(disk / 'work', keep)

    status = wait(start(run, log))
    text = log.read_text()
    assert 'Logging error' not in text
    if status:
        assert status == 2, text
        assert 'Traceback' not in text
        [sentence] = [line for line in text.splitlines() if line.startswith('error: ')]
        assert 'no space left on device' in sentence
    else:
        assert (disk / 'work/iter_6.pth').exists()
    saved = list((disk / 'work').glob('*.pth')) if (disk / 'work').exists() else []
    for path in saved:
        load_checkpoint_file(path)
    assert not list(disk.rglob('*.tmp'))
    if any(path.name.startswith('iter_') for path in saved):
        assert CheckpointFolder(disk / 'work').find_latest()[0] is not None

    (disk / 'filler').unlink()
    assert wait(start(run, log)) == 0, log.read_text()
    found = load_checkpoint_file(disk / 'work/iter_6.pth')
    runs.assert_same(found['state_dict'], whole['state_dict'])
