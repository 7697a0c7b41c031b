"""Every method: killed and resumed, it is bit for bit what it would have been."""

import os
import signal

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook

from mmmim.checkpoints import load_checkpoint_file
from mmmim.engine import Runner
from tests.paths import ROOT
from tests.processes import start_group, wait
from tests.shrink import shrink, write_images

pytestmark = pytest.mark.slow
METHODS = ['beit', 'capi', 'ijepa', 'latent_mim', 'mae', 'maskfeat', 'pilamim', 'semantic_mim']
SAVED, KILLED, END = 3, 5, 7


class Kill(Hook):
    """Ends the process at once, in the middle of an epoch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)


def train(method, images, work_dir, world_size, workers, killed=False):
    files = sorted(ROOT.glob(f'configs/{method}/*digits.py'))
    cfg = shrink(Config.fromfile(files[0]), images, work_dir)
    cfg.train_cfg.max_iters = END
    cfg.default_hooks.checkpoint.update(interval=SAVED, max_keep_ckpts=1)
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.persistent_workers = False
    cfg.experiment_name = os.path.basename(work_dir)
    cfg.launcher = 'pytorch' if world_size > 1 else 'none'
    cfg.resume = 'auto'
    runner = Runner.from_cfg(cfg)
    if killed:
        runner.register_hook(Kill())
    runner.train()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Uninterrupted runs, without workers, made when they are first asked for."""
    folder = tmp_path_factory.mktemp('whole')
    write_images(folder / 'images', number=20)

    def of(method, world_size):
        work_dir = folder / f'{method}_{world_size}'
        if not work_dir.exists():
            run(method, folder / 'images', work_dir, world_size, 0)
        return folder / 'images', load_checkpoint_file(work_dir / f'iter_{END}.pth')

    return of


def run(method, images, work_dir, world_size, workers, killed=False):
    log = f'{work_dir}.log'
    group = start_group(lambda: train(method, images, work_dir, world_size, workers, killed), log, world_size)
    statuses = [wait(process) for process in group]
    with open(log) as file:
        assert statuses == [-9 if killed else 0] * world_size, file.read()[-3000:]


@pytest.mark.parametrize('world_size', [1, 2])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('method', METHODS)
def test_resumed_exactly(whole, tmp_path, method, workers, world_size):
    images, expected = whole(method, world_size)
    run(method, images, tmp_path / 'cut', world_size, workers, killed=True)
    assert [path.name for path in (tmp_path / 'cut').glob('iter_*.pth')] == [f'iter_{SAVED}.pth']
    run(method, images, tmp_path / 'cut', world_size, workers)
    found = load_checkpoint_file(tmp_path / f'cut/iter_{END}.pth')
    for key, value in expected['state_dict'].items():
        assert torch.equal(value, found['state_dict'][key]), key
    for state, other in zip(expected['optimizer']['state'].values(), found['optimizer']['state'].values(), strict=True):
        assert all(torch.equal(state[key], other[key]) for key in state)
    assert expected['param_schedulers'] == found['param_schedulers']
