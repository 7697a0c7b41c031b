"""Whole runs: resumed, with other settings, with bad images."""

import shutil

import pytest
import torch
from mmengine.hooks import Hook

import mmmim
from mmmim.engine.schedules import build_schedule
from mmmim.utils import InputError
from tests.runs import assert_same_training, load, pretraining, start
from tests.shrink import write_images


class Record(Hook):
    """Learning rate, momentum and loss of every iteration, and the images seen."""

    priority = 'LOWEST'

    def __init__(self):
        self.rows = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates = tuple(group['lr'] for group in runner.optim_wrapper.optimizer.param_groups)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        momentum = runner.message_hub.get_scalar('train/momentum').current()
        images = float(data_batch['inputs'].double().mean())
        self.rows[runner.iter] = (self.rates, momentum, outputs['loss'].item(), images)


def train(images, folder, **options):
    """The runner of a training, and what was recorded."""
    cfg = pretraining('capi/small', images, folder, train_cfg__max_iters=8, randomness__seed=5)
    cfg.default_hooks.checkpoint.update(interval=4, max_keep_ckpts=2)
    cfg.model.backbone.drop_path_rate = 0.3
    cfg.merge_from_dict(options)
    record = Record()
    return start(cfg, record), record.rows


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A folder with images and an uninterrupted run, its rows and its runner."""
    folder = tmp_path_factory.mktemp('whole')
    write_images(folder / 'images', number=20)
    runner, rows = train(folder / 'images', folder / 'run')
    assert len({row[0] for row in rows.values()}) > 4
    assert len({row[3] for row in rows.values()}) == 8
    return folder, rows, runner


@pytest.fixture
def resumed(whole, tmp_path):
    """Goes on from the fourth iteration."""
    options = {'resume': True, 'load_from': str(whole[0] / 'run/iter_4.pth')}
    return lambda **changes: train(whole[0] / 'images', tmp_path / 'run', **options, **changes)


@pytest.mark.parametrize(('workers', 'seed'), [(0, 7), (2, 5), (0, None)])
def test_a_resumed_run_is_the_uninterrupted_one(whole, resumed, tmp_path, workers, seed):
    """With the seed that it was started with, if the config has none or another one by now."""
    folder, rows, _ = whole
    runner, found = resumed(**{'train_dataloader.num_workers': workers, 'randomness.seed': seed})
    assert runner.seed == 5
    assert found == {iteration: rows[iteration] for iteration in (4, 5, 6, 7)}
    assert_same_training(load(folder / 'run/iter_8.pth'), load(tmp_path / 'run/iter_8.pth'))


def test_a_resumed_run_follows_a_changed_config(resumed):
    changes = {'lr': 1e-4, 'weight_decay': 0.2}
    options = {f'optim_wrapper.optimizer.{key}': value for key, value in changes.items()}
    runner, rows = resumed(**{'train_cfg.max_iters': 10}, **options)
    lr = build_schedule(runner.cfg.param_scheduler.schedule)
    momentum = build_schedule(runner.cfg.default_hooks.target_ema.momentum)
    assert list(rows) == list(range(4, 10))
    for iteration, (rates, value, *_) in rows.items():
        assert rates[0] == pytest.approx(1e-4 * lr(iteration, 10))
        assert value == pytest.approx(momentum(iteration, 10))
    assert runner.optim_wrapper.optimizer.param_groups[0]['weight_decay'] == 0.2


def test_different_seeds_differ(whole, tmp_path):
    _, rows = train(whole[0] / 'images', tmp_path, **{'randomness.seed': 1, 'train_cfg.max_iters': 1})
    assert all(rows[0][value] != whole[1][0][value] for value in (2, 3))


def test_a_training_checkpoint_gives_features(whole):
    folder, _, runner = whole
    images = torch.randn(2, 3, 32, 32)
    for weights, model in (('student', runner.model), ('ema', runner.model.teacher)):
        features = mmmim.get_model(folder / 'run/iter_8.pth', weights)(images)
        model.eval()
        torch.testing.assert_close(features.patches[0], model.backbone(images).visible)


def test_unreadable_images_are_skipped_up_to_a_share(whole, tmp_path):
    shutil.copytree(whole[0] / 'images', tmp_path / 'images')
    (tmp_path / 'images/broken.png').write_bytes(b'no image')
    options, share = {'train_cfg.max_iters': 6}, 'train_dataloader.dataset.dataset.max_unreadable_share'
    runner, _ = train(tmp_path / 'images', tmp_path / 'run', **options, **{share: 0.2})
    assert [str(path).rsplit('/')[-1] for path in runner.train_dataloader.dataset.unreadable] == ['broken.png']
    with pytest.raises(InputError, match=r'broken\.png'):
        train(tmp_path / 'images', tmp_path / 'other', **options, **{share: 0.0})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'global_batch_size': 1}, 'at least 2 images'),
        ({'train_dataloader.dataset.dataset.pipeline.1.scale': 30}, 'patch_size=4 does not divide'),
        ({'train_dataloader.dataset.dataset.data_root': 'nowhere'}, 'nowhere'),
    ],
)
def test_bad_settings_end_in_one_clear_message(whole, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train(whole[0] / 'images', tmp_path, **options)
