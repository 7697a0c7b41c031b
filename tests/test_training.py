"""Whole runs: interrupted and resumed, bad images, bad batches."""

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook

from mmmim.engine import Runner
from mmmim.engine.schedules import build_schedule
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, write_images


class Interrupt(Hook):
    """Stops a run as a kill would, after an iteration."""

    priority = 'LOWEST'

    def __init__(self, after):
        self.after = after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


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


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / 'images', number=20)

    def make(work_dir, **options):
        cfg = shrink(Config.fromfile(ROOT / 'configs/capi/digits.py'), tmp_path / 'images', tmp_path / work_dir)
        cfg.train_cfg.max_iters = 8
        cfg.default_hooks.checkpoint.interval = 4
        cfg.model.backbone.drop_path_rate = 0.3
        cfg.experiment_name = f'{work_dir}-{len(list(tmp_path.iterdir()))}-{options}'
        cfg.merge_from_dict(options)
        return cfg

    return make


def run(cfg, *hooks):
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(config, workers):
    options = {'train_dataloader.num_workers': workers}
    whole = Record()
    reference = run(config('whole', **options), whole)

    first, second = Record(), Record()
    with pytest.raises(KeyboardInterrupt):
        run(config('cut', **options), first, Interrupt(after=6))
    resumed = run(config('cut', resume=True, **options), second)

    assert list(second.rows) == [4, 5, 6, 7]
    for iteration, row in first.rows.items():
        assert row == whole.rows[iteration]
    for iteration, row in second.rows.items():
        assert row == whole.rows[iteration], iteration
    assert len({row[0] for row in whole.rows.values()}) > 4
    assert len({row[3] for row in whole.rows.values()}) == 8
    for key, value in reference.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    states = (r.optim_wrapper.optimizer.state_dict()['state'] for r in (reference, resumed))
    for one, other in zip(*(state.values() for state in states), strict=True):
        for name in one:
            assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize('seed', [pytest.param(None, marks=pytest.mark.slow), 7])
def test_a_resumed_run_keeps_the_seed_that_it_was_started_with(config, seed):
    """The config has none, or another one by now."""
    options = {'train_cfg.max_iters': 6, 'default_hooks.checkpoint.max_keep_ckpts': 2}
    first, second = Record(), Record()
    start = run(config('start', **options, **{'randomness.seed': seed and 5}), first)
    resumed = run(
        config('go', load_from=f'{start.work_dir}/iter_4.pth', resume=True, **options, **{'randomness.seed': seed}),
        second,
    )
    assert resumed.seed == start.seed
    assert list(second.rows) == [4, 5]
    for iteration, row in second.rows.items():
        assert row == first.rows[iteration]


def test_a_resumed_run_follows_a_changed_config(config):
    with pytest.raises(KeyboardInterrupt):
        run(config('cut'), Interrupt(after=6))
    options = {
        'train_cfg.max_iters': 12,
        'optim_wrapper.optimizer.lr': 1e-4,
        'optim_wrapper.optimizer.weight_decay': 0.2,
    }
    record = Record()
    cfg = config('cut', resume=True, **options)
    resumed = run(cfg, record)
    lr = build_schedule(cfg.param_scheduler.schedule)
    momentum = build_schedule(cfg.default_hooks.target_ema.momentum)
    assert list(record.rows) == list(range(4, 12))
    for iteration, (rates, value, *_) in record.rows.items():
        assert rates[0] == pytest.approx(1e-4 * lr(iteration, 12))
        assert value == pytest.approx(momentum(iteration, 12))
    assert resumed.optim_wrapper.optimizer.param_groups[0]['weight_decay'] == 0.2


def test_different_seeds_differ(config):
    rows = []
    for seed in (0, 1):
        record = Record()
        run(config(f'seed{seed}', **{'randomness.seed': seed, 'train_cfg.max_iters': 1}), record)
        rows.append(record.rows[0])
    assert rows[0][2] != rows[1][2]
    assert rows[0][3] != rows[1][3]


def test_a_training_checkpoint_gives_features(config, tmp_path):
    import mmmim

    runner = run(config('features'))
    images = torch.randn(2, 3, 32, 32)
    for weights, model in (('student', runner.model), ('ema', runner.model.teacher)):
        features = mmmim.get_model(tmp_path / 'features/iter_8.pth', weights)(images)
        model.eval()
        torch.testing.assert_close(features.patches[0], model.backbone(images).visible)


def test_unreadable_images_are_skipped_up_to_a_share(config, tmp_path):
    (tmp_path / 'images/broken.png').write_bytes(b'no image')
    cfg = config('bad')
    dataset = cfg.train_dataloader.dataset.dataset
    dataset.max_unreadable_share = 0.2
    runner = run(cfg)
    assert [str(path).rsplit('/')[-1] for path in runner.train_dataloader.dataset.unreadable] == ['broken.png']
    cfg = config('worse', **{'train_dataloader.dataset.dataset.max_unreadable_share': 0.0})
    with pytest.raises(InputError, match=r'broken\.png'):
        run(cfg)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'global_batch_size': 1}, 'at least 2 images'),
        ({'train_dataloader.dataset.dataset.pipeline.1.scale': 30}, 'patch_size=4 does not divide'),
        ({'train_dataloader.dataset.dataset.data_root': 'nowhere'}, 'nowhere'),
        ({'optim_wrapper.optimizer.fused': False}, 'fused=True'),
    ],
)
def test_bad_settings_end_in_one_clear_message(config, options, message):
    with pytest.raises(InputError, match=message):
        run(config('bad', **options))
