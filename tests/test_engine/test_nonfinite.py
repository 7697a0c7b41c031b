"""Trainings whose steps teach nothing: they end, keep what was good, and leave what it takes to see why."""

import math
import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from mmmim.engine import Runner
from mmmim.engine.hooks import runtime_info_hook
from mmmim.engine.hooks.health_hook import _baseline
from mmmim.engine.hooks.runtime_info_hook import _counts, _histories
from mmmim.engine.nonfinite import capture, run_step
from mmmim.engine.replay import replay
from mmmim.engine.skipped_steps import SkippedSteps
from mmmim.engine.stored_batch import pack, unpack
from mmmim.registry import OPTIM_WRAPPERS
from mmmim.utils import InputError
from tests.runs import assert_same, load, log_of, names, pretraining, rows_of, start
from tests.shrink import write_images
from tests.test_engine.toy_training import toy_config
from tests.toys import random_mask

NAN, INF = math.nan, math.inf


class Spoil(Hook):
    """Makes the second image, or a target, NaN in some iterations."""

    def __init__(self, when, value=NAN, key='inputs'):
        self.when, self.value, self.key = when, value, key

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        data_batch[self.key] = data_batch[self.key].float()
        if self.when(runner.iter):
            data_batch[self.key][1] = self.value


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder, 16)
    return folder


def config(images, work_dir, method='mae', iterations=20, limit=6, interval=5, **changes):
    cfg = pretraining(f'{method}/small', images, work_dir, train_cfg__max_iters=iterations)
    cfg.default_hooks = {k: v for k, v in cfg.default_hooks.items() if k not in ('probe', 'health')}
    cfg.default_hooks.logger.interval = interval
    cfg.default_hooks.runtime_info.max_skipped = limit
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def ends(cfg, message, *hooks):
    with pytest.raises(InputError, match=message) as error:
        start(cfg, *hooks)
    return str(error.value)


def test_the_row_is_counted_across_intervals_and_broken_by_a_good_step():
    steps = SkippedSteps()
    for value in (1, 1, 0, 1, 1, 1):
        steps.add({'loss': 1.0, 'skipped': value})
    assert (steps.in_row, steps.lost, steps.steps) == (3, 5, 6)
    assert '5 of the last 6 steps were lost' in steps.interval()
    assert steps.interval() is None  # nothing since
    steps.add({'loss': 1.0, 'skipped': 1.0})
    assert steps.in_row == 4


@pytest.mark.parametrize(
    ('values', 'lost'),
    [
        ({'loss': NAN}, True),
        ({'loss': 1.0, 'loss_other': -INF}, True),
        ({'loss': 1.0, 'grad_norm': INF}, False),  # a wrapper that clips; it says nothing of skipping
        ({'accuracy': NAN}, False),
        ({'loss': 1.0, 'skipped': 1.0}, True),
        ({'loss': 1.0, 'skipped': 1.0, 'loss_scale': 1.0}, True),
        ({'loss': NAN, 'skipped': 1.0, 'loss_scale': 65536.0}, True),  # no scale makes this finite
    ],
)
def test_what_a_lost_step_is(values, lost):
    steps = SkippedSteps()
    steps.add(values)
    assert steps.in_row == lost


def test_looking_for_a_loss_scale_is_not_counted_for_ever():
    steps = SkippedSteps()
    for step in range(50):  # scales halve: down from 2^16 there are 16 such steps, and then they count
        steps.add({'loss': 1.0, 'skipped': 1.0, 'loss_scale': 2.0 ** (16 - step)})
    assert (steps.in_row, steps.warm_up) == (34, 16)


def test_a_scale_that_halves_with_every_step_tells_of_them():
    """Of mmengine's AmpOptimWrapper, whose losses may stay finite while it skips every step."""
    steps, scale, rows = SkippedSteps(), 2.0**16, []
    steps.follow_scale(scale)
    for _ in range(6):
        for _ in range(5):
            steps.add({'loss': 1.0})
            scale /= 2
        steps.follow_scale(scale)
        rows.append(steps.in_row)
        assert (steps.interval() is None) == (scale > 1)
    assert rows == [0, 0, 0, 20, 25, 30]  # above 1 it looks for a scale
    steps.add({'loss': 1.0})
    steps.follow_scale(scale)
    assert steps.in_row == 0


class ScaledWrapper(AmpOptimWrapper):
    """mmengine's, on a CPU: its own class asks for a GPU."""

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu')
        self._scale_update_param = self.cast_dtype = None

    def step(self, **kwargs):
        for group in self.optimizer.param_groups:
            for parameter in group['params']:
                parameter.grad.fill_(INF)
        super().step(**kwargs)


def test_a_wrapper_that_skips_in_silence(tmp_path):
    OPTIM_WRAPPERS.register_module(module=ScaledWrapper, force=True)
    cfg = toy_config(tmp_path, custom_hooks=[], param_scheduler=None, optim_wrapper__type='mmmim.ScaledWrapper')
    cfg.default_hooks.runtime_info.max_skipped = 30
    cfg.train_cfg.max_iters = 100
    ends(cfg, 'the last 30 steps, up to iteration 35, were lost')


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ('latent_mim', 'pilamim', 'ijepa', 'beit')]


@pytest.mark.parametrize('method', ['mae', 'capi', *SLOW])
def test_a_training_that_learns_nothing_any_more_ends(images, tmp_path, method):
    # Steps 4 to 10: the sixth in a row is the ninth, and the tenth is logged.
    spoil = Spoil(lambda iteration: iteration >= 3)
    message = ends(config(images, tmp_path, method), 'the last 7 steps, up to iteration 10, were lost', spoil)
    path = tmp_path / 'nonfinite_iter_10.pth'
    assert f'replay_nonfinite.py {path}' in message
    # Of the good checkpoints none was deleted for one that was saved in between; no capture is taken for one.
    assert 'iter_2.pth' in names(tmp_path)
    (again := Runner.from_cfg(config(images, tmp_path, method, resume='auto'))).load_or_resume()
    assert again.iter == 8

    saved = load(path)
    assert saved['iteration'] == 10
    assert saved['not_finite']['images'] == [1]
    assert 'loss' in saved['not_finite']['losses']
    assert saved['not_finite']['weights'] == []
    assert [Path(image).parent for image in saved['images']] == [images] * 4
    assert_same(load(tmp_path / 'iter_8.pth')['state_dict'], saved['state_dict'])  # skipped steps change nothing

    found = replay(str(path))
    assert found.report.first == 'data_preprocessor (MIMDataPreprocessor)'
    assert sorted(found.report.gradients) == sorted(saved['not_finite']['gradients'])
    for words in ('Images that are not finite: 1', '| NO (', Path(saved['images'][1]).name):
        assert words in found.text()


def test_a_step_is_replayed_to_the_digit(images, tmp_path):
    """Drop path and scheduled values included."""
    kept = {}

    class Keep(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            kept.update({key: float(value) for key, value in outputs.items()})

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 2:  # weights before the step
                random = torch.get_rng_state()
                os.replace(capture(runner, data_batch, {}), tmp_path / 'before.pth')
                torch.set_rng_state(random)

    drop_path = {'model__backbone__drop_path_rate': 0.5}
    start(config(images, tmp_path, 'latent_mim', iterations=3, interval=1, **drop_path), Keep())
    found = replay(str(tmp_path / 'before.pth'))
    assert not found.report.gradients
    assert found.report.first is None
    assert found.report.losses == {key: kept[key] for key in found.report.losses}
    assert 'The step is finite here' in found.text()


@pytest.mark.parametrize(
    ('options', 'first', 'message'),
    [
        ({'iterations': 4, 'limit': 100}, 0, 'the last 4 steps, up to iteration 4, were lost'),
        # The limit is reached between the last logged iteration and the last one.
        ({'iterations': 14, 'interval': 10}, 8, 'the last 6 steps, up to iteration 14'),
        ({'default_hooks__logger': None}, 3, 'the last 7 steps, up to iteration 10, were lost'),
    ],
)
def test_where_a_training_ends(images, tmp_path, monkeypatch, options, first, message):
    monkeypatch.setattr(runtime_info_hook, '_INTERVAL', 10)  # of looks where nothing is logged
    ends(config(images, tmp_path, **options), message, Spoil(lambda iteration: iteration >= first))
    if options.get('iterations') == 4:
        assert names(tmp_path, 'nonfinite*') == ['nonfinite_iter_4.pth']
        assert 'iter_4.pth' in names(tmp_path)  # what else the last iteration does is done


def test_bad_steps_between_good_ones_are_a_warning_and_no_end(images, tmp_path):
    runner = start(config(images, tmp_path), Spoil(lambda iteration: iteration % 6 > 0))
    assert runner.iter == 20
    (warning,) = [line for line in log_of(runner).splitlines() if 'steps were lost' in line]  # once, of four intervals
    assert 'WARNING - 4 of the last 5 steps were lost' in warning
    assert 'max_skipped' in warning
    assert names(tmp_path, 'nonfinite*') == []


def test_a_row_goes_on_when_it_is_resumed(images, tmp_path):
    spoil = Spoil(lambda iteration: iteration >= 5)
    start(config(images, tmp_path / 'a', iterations=9, interval=3), spoil)
    saved = tmp_path / 'a/iter_8.pth'
    assert load(saved)['message_hub']['runtime_info']['skipped_steps'] == (3, 0)
    options = {'iterations': 12, 'interval': 3, 'resume': True, 'load_from': str(saved)}
    ends(config(images, tmp_path / 'b', **options), 'the last 7 steps, up to iteration 12, were lost', spoil)
    assert start(config(images, tmp_path / 'c', **options)).iter == 12


@pytest.mark.parametrize('epochs', [False, True])
def test_other_wrappers_loops_and_hooks(tmp_path, epochs):
    """mmengine's wrapper skips nothing: a loss that stays NaN is noticed by itself."""
    cfg = toy_config(tmp_path, custom_hooks=[], default_hooks__checkpoint__interval=2, train_cfg__max_iters=240)
    if epochs:
        cfg.default_hooks.runtime_info.type = 'mmengine.RuntimeInfoHook'
        cfg.train_cfg = dict(type='mmengine.EpochBasedTrainLoop', max_epochs=30)
        cfg.train_dataloader.sampler = dict(type='mmengine.DefaultSampler', shuffle=True)
    else:
        del cfg.default_hooks['runtime_info']
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = cfg.param_scheduler = None
    spoil = Spoil(lambda iteration: iteration == 7, key='target')
    ends(cfg, r'the last 1\d\d steps, up to iteration 1\d\d, were lost', spoil)
    (path,) = tmp_path.glob('nonfinite*')
    assert load(path)['not_finite']['weights']
    assert 'iter_6.pth' in names(tmp_path) or epochs


def test_looking_for_a_loss_scale_ends_no_training_and_is_none(images, tmp_path):
    half = {'optim_wrapper__dtype': 'float16', 'optim_wrapper__loss_scale': 2.0**30}
    runner = start(config(images, tmp_path / 'a', iterations=25, limit=5, interval=4, **half))
    assert 6 < runner.message_hub.get_scalar('train/skipped').data[0].sum() < 25
    assert 'were lost' not in log_of(runner)
    cfg = config(images, tmp_path / 'b', iterations=5, **half)
    ends(cfg, r'start lower \(optim_wrapper\.loss_scale\), or use bfloat16')


def test_what_fp32_cures_is_said(images, tmp_path):
    """Activations beyond 65504: infinite in float16, finite in fp32."""
    runner = Runner.from_cfg(config(images, tmp_path, limit=3, optim_wrapper__dtype='float16'))
    with torch.no_grad():
        runner.model.init_weights()
        runner.model.backbone.blocks[1].mlp.fc1.weight.mul_(1e6)
    runner.model.init_weights = lambda: None
    with pytest.raises(InputError, match='Nothing is learned any more'):
        runner.train()
    found = replay(str(tmp_path / 'nonfinite_iter_5.pth'))
    assert found.report.first == 'backbone.blocks.1.mlp.fc1 (Linear)'
    assert found.exact.bad_losses == found.exact.gradients == []
    assert 'In fp32 instead of float16 it is finite: set optim_wrapper.dtype=None' in found.text()
    assert 'float16, loss scale' in found.text()


def test_batches_come_back_as_they_were(tmp_path):
    segmented = SegDataSample(metainfo={'img_path': 'a.png', 'ori_shape': (4, 5)})
    segmented.gt_sem_seg = PixelData(data=torch.ones(1, 4, 5, dtype=torch.int64))
    labelled = DataSample(metainfo={'img_path': Path('b.png')}).set_gt_label(3)
    batch = {'inputs': [torch.rand(3, 4, 5)], 'mask': random_mask(2), 'x': (1, object())}
    torch.save(pack({**batch, 'data_samples': [segmented, labelled]}), tmp_path / 'packed.pth')
    back = unpack(load(tmp_path / 'packed.pth'))
    assert_same(back['inputs'], batch['inputs'])
    assert_same(vars(back['mask']), vars(batch['mask']))
    assert back['x'] == (1, None)
    one, other = back['data_samples']
    assert torch.equal(one.gt_sem_seg.data, segmented.gt_sem_seg.data)
    assert (type(one), one.ori_shape) == (SegDataSample, (4, 5))
    assert (type(other), other.img_path, other.gt_label.tolist()) == (DataSample, 'b.png', [3])
    with pytest.raises(InputError, match="'Popen', which is no known kind"):
        unpack({'__kind__': 'Popen', 'metainfo': {}, 'data': {}})


def test_a_disk_that_is_full_hides_nothing(images, tmp_path, monkeypatch):
    """The message about the training comes first, with or without a capture."""

    def full(*args):
        raise InputError('nonfinite_iter_4.pth could not be written: no space left on device.')

    monkeypatch.setattr('mmmim.engine.nonfinite.save_checkpoint_file', full)
    spoil = Spoil(lambda iteration: True)
    assert 'replay' not in ends(config(images, tmp_path, iterations=4), 'Nothing is learned any more', spoil)
    (log,) = tmp_path.glob('*/*.log')
    assert 'no space left on device' in log.read_text()


def test_the_tool(images, tmp_path, tool):
    ends(config(images, tmp_path, iterations=2), 'Nothing', Spoil(lambda iteration: True, INF))
    out = tool('analysis_tools/replay_nonfinite', tmp_path / 'nonfinite_iter_2.pth', '--device', 'cpu')
    assert 'Iteration 2, seed 0, float32' in out
    assert 'NO (' in out
    for wrong in (tmp_path / 'iter_2.pth', tmp_path / 'none.pth'):
        assert str(wrong) in tool('analysis_tools/replay_nonfinite', wrong, code=2)
    assert names(tmp_path, 'nonfinite*') == ['nonfinite_iter_2.pth']


def target_of(saved):
    return saved['mmmim']['model']['branches']['pixels']['target_generator']


FORGED = [
    (lambda saved: saved['mmmim']['model'].update(backbone={'type': 'os.system', 'command': 'touch hit'}), 'system'),
    (lambda saved: saved['mmmim']['model'].update(branches=[1]), 'model.branches'),
    (lambda saved: target_of(saved).update(type='mmmim.KMeansTokenizer', codebook='hit'), '.codebook='),
    (lambda saved: saved['state_dict'].popitem(), '1 missing'),
    (lambda saved: saved['batch'].update(mask={'__kind__': 'os.system'}), 'no known kind'),
    ({'dtype': 'load'}, 'a type among'),
    ({'batch': {'inputs': 3}}, 'cannot be run'),
    ({'scheduled': {'backbone.forward': 3}}, 'no number'),
    ({'scheduled': [1]}, 'scheduled='),
    ({'not_finite': {'weights': 3, 'images': []}}, 'not_finite='),
    ({'iteration': INF}, "iteration='inf'"),
    ({'nonfinite': torch.zeros(2, 2)}, 'no capture of a step'),
    ({'state_dict': torch.zeros(2, 2)}, 'no weights'),
]


@pytest.fixture(scope='module')
def captured(images, tmp_path_factory):
    """A runner of initialised weights, a batch, and the file of a step of both."""
    runner = Runner.from_cfg(config(images, tmp_path_factory.mktemp('captured')))
    runner.model.init_weights()
    data = next(iter(runner.train_dataloader))
    return runner, data, capture(runner, data, {'loss': NAN})


@pytest.mark.parametrize(('change', 'message'), FORGED)
def test_captures_from_elsewhere_run_nothing(captured, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    saved = load(captured[2])
    saved.update(change) if isinstance(change, dict) else change(saved)
    torch.save(saved, 'forged.pth')
    with pytest.raises(InputError, match=message):
        replay('forged.pth')
    assert os.listdir() == ['forged.pth']


def test_a_step_that_is_looked_at_changes_nothing(captured):
    runner, data, _ = captured
    model = runner.model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = run_step(model, data, (0, 0, 0), watch=True)
    assert report.with_gradient == sum(p.requires_grad for p in model.parameters())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert_same(before, dict(model.state_dict()))


REPORTS = ('health', 'health_history', 'log_history', 'skipped_steps')


def test_a_resumed_training_has_the_reports_of_one_that_was_not_interrupted(images, tmp_path):
    """What warnings compare with, and the gradient norms, to the bit; no report more and none less."""

    def train(name, **options):
        cfg = config(images, tmp_path / name, 'capi', iterations=8, interval=2, **options)
        cfg.custom_hooks.append(dict(type='mmmim.HealthHook', interval=4))
        drop = ('time', 'data_time', 'images_per_s', 'memory')
        rows = [{k: v for k, v in row.items() if k not in drop} for row in rows_of(start(cfg))]
        return rows, load(tmp_path / name / 'iter_8.pth')['message_hub']['runtime_info']

    rows, end = train('whole', default_hooks__checkpoint__max_keep_ckpts=9)
    reported = [row for row in rows if 'health/student_rankme_patches' in row]
    assert [row['iter'] for row in reported] == [row['step'] for row in reported] == [1, 4, 8]
    after, found = train('rest', resume=True, load_from=str(tmp_path / 'whole/iter_6.pth'))
    assert set(found) == set(end)
    for key in (*REPORTS, 'iter', 'epoch', 'max_iters', 'seed'):
        assert found[key] == end[key], key
    assert after == [row for row in rows if row.get('iter', row.get('step')) > 6]


def test_what_else_a_checkpoint_may_hold_is_none():
    """Stored rows, histories and baselines of another kind start anew."""
    for value in (None, 3, 'x', [1], (1, 'a'), (-1, 0), {'last': 'a'}, {'last': 1, 'warned': 3}, {'a': 'b'}):
        assert _counts(value) == (0, 0)
        assert _histories(value) == {}
        assert _baseline(value, 4) == (4, {})
