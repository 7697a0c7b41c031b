"""Every method: killed and resumed, it is bit for bit what it would have been."""

import signal

import pytest

from mmmim.checkpoints import load_checkpoint_file
from tests.paths import ROOT
from tests.processes import run_group
from tests.runs import At, assert_same_training, names, pretraining, send, start
from tests.shrink import write_images

pytestmark = pytest.mark.slow
METHODS = ['beit', 'capi', 'ijepa', 'latent_mim', 'mae', 'maskfeat', 'pilamim', 'semantic_mim']
SAVED, KILLED, END = 3, 5, 7


def train(method, images, work_dir, world_size, workers, killed=False):
    file = min(ROOT.glob(f'configs/{method}/*small.py'))
    cfg = pretraining(f'{method}/{file.stem}', images, work_dir, train_cfg__max_iters=END)
    cfg.default_hooks.checkpoint.update(interval=SAVED, max_keep_ckpts=1)
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=False)
    cfg.launcher = 'pytorch' if world_size > 1 else 'none'
    cfg.resume = 'auto'
    # Ends the process at once, in the middle of an epoch.
    start(cfg, *([At(before_train_iter=(KILLED, send(signal.SIGKILL)))] if killed else []))


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
    def function():
        train(method, images, work_dir, world_size, workers, killed)

    run_group(function, f'{work_dir}.log', world_size, -9 if killed else 0)


@pytest.mark.parametrize('world_size', [1, 2])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('method', METHODS)
def test_resumed_exactly(whole, tmp_path, method, workers, world_size):
    images, expected = whole(method, world_size)
    run(method, images, tmp_path / 'cut', world_size, workers, killed=True)
    assert names(tmp_path / 'cut', 'iter_*') == [f'iter_{SAVED}.pth']
    run(method, images, tmp_path / 'cut', world_size, workers)
    assert_same_training(expected, load_checkpoint_file(tmp_path / f'cut/iter_{END}.pth'))
