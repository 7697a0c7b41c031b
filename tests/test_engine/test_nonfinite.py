"""Trainings whose steps teach nothing: they end, keep what was good, and leave what it takes to see why."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from toy_training import toy_config

from mmmim.engine import Runner
from mmmim.engine.nonfinite import capture, run_step
from mmmim.engine.replay import replay
from mmmim.engine.skipped_steps import SkippedSteps
from mmmim.engine.stored_batch import pack, unpack
from mmmim.registry import HOOKS, OPTIM_WRAPPERS
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool
from tests.shrink import shrink, write_images
from tests.toys import random_mask

NAN, INF = math.nan, math.inf


class Spoil(Hook):
    """Makes a channel of the second image NaN in some iterations."""

    def __init__(self, when, value=NAN):
        self.when, self.value = when, value

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        data_batch['inputs'] = data_batch['inputs'].float()
        if self.when(runner.iter):
            data_batch['inputs'][1, 0] = self.value


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder, 16)
    return folder


def build(images, work_dir, method='mae', iterations=20, limit=6, interval=5, **options):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{method}/digits.py'), images, work_dir)
    cfg.train_cfg.max_iters = iterations
    cfg.default_hooks = {k: v for k, v in cfg.default_hooks.items() if k not in ('probe', 'health')}
    cfg.default_hooks.logger.interval = interval
    cfg.default_hooks.runtime_info.max_skipped = limit
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1)
    cfg.experiment_name = str(work_dir)
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)


def train(runner, *hooks):
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def log_of(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def names(folder, pattern='*.pth'):
    return sorted(path.name for path in Path(folder).glob(pattern))


# ------------------------------------------------------------------------------------------------------- counting


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
        ({'loss': 1.0}, False),
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
    """Scales halve: down from 2^16 there are 16 such steps, and then they count."""
    steps, scale = SkippedSteps(), 2.0**16
    for _ in range(50):
        steps.add({'loss': 1.0, 'skipped': 1.0, 'loss_scale': scale})
        scale /= 2
    assert (steps.in_row, steps.warm_up) == (34, 16)


@pytest.mark.parametrize('value', [0, -1, 1.5, True, 'many', None])
def test_a_limit_that_is_none(value):
    with pytest.raises(InputError, match='max_skipped'):
        HOOKS.build({'type': 'mmmim.RuntimeInfoHook', 'max_skipped': value})


def test_a_scale_that_halves_with_every_step_tells_of_them():
    """Of mmengine's AmpOptimWrapper, whose losses may stay finite while it skips every step."""
    steps, scale = SkippedSteps(), 2.0**16
    steps.follow_scale(scale)
    rows = []
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
    runner = Runner.from_cfg(cfg)
    with pytest.raises(InputError, match='the last 30 steps, up to iteration 35, were lost'):
        runner.train()


# ------------------------------------------------------------------------------------------- the end of a training


@pytest.mark.parametrize(
    'method',
    [
        'mae',
        'capi',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('latent_mim', 'pilamim', 'ijepa', 'beit')),
    ],
)
def test_a_training_that_learns_nothing_any_more_ends(images, tmp_path, method):
    runner = build(images, tmp_path, method)
    with pytest.raises(InputError) as error:
        train(runner, Spoil(lambda iteration: iteration >= 3))
    # Steps 4 to 10: the sixth in a row is the ninth, and the tenth is logged.
    assert 'the last 7 steps, up to iteration 10, were lost' in str(error.value)
    path = tmp_path / 'nonfinite_iter_10.pth'
    assert f'replay_nonfinite.py {path}' in str(error.value)
    # Of the good checkpoints none was deleted for one that was saved in between; no capture is taken for one.
    assert 'iter_2.pth' in names(tmp_path)
    (again := build(images, tmp_path, method, resume='auto')).load_or_resume()
    assert again.iter == 8

    saved = torch.load(path, weights_only=True)
    assert saved['iteration'] == 10
    assert saved['not_finite']['images'] == [1]
    assert 'loss' in saved['not_finite']['losses']
    assert saved['not_finite']['weights'] == []
    assert [Path(image).parent for image in saved['images']] == [images] * 4
    last = torch.load(tmp_path / 'iter_8.pth', weights_only=True)
    for key, value in last['state_dict'].items():  # skipped steps change nothing
        assert torch.equal(saved['state_dict'][key], value), key

    found = replay(str(path))
    assert found.report.first == 'data_preprocessor (MIMDataPreprocessor)'
    assert sorted(found.report.gradients) == sorted(saved['not_finite']['gradients'])
    text = found.text()
    assert 'Images that are not finite: 1' in text
    assert '| NO (' in text
    assert Path(saved['images'][1]).name in text


def test_a_step_is_replayed_to_the_digit(images, tmp_path):
    """Of a finite step: losses of the replay are those of the training, drop path and scheduled values included."""
    runner = build(images, tmp_path, 'latent_mim', iterations=3, interval=1)

    class Keep(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.outputs = {k: float(v) for k, v in outputs.items()}

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 2:  # weights before the step
                self.path = capture(runner, data_batch, {})
                os.replace(self.path, tmp_path / 'before.pth')

    keep = Keep()
    train(runner, keep)
    report = replay(str(tmp_path / 'before.pth')).report
    assert not report.gradients
    assert report.first is None
    for key, value in report.losses.items():
        assert value == keep.outputs[key], key
    assert 'The step is finite here' in replay(str(tmp_path / 'before.pth')).text()


def test_a_short_training_without_a_single_step_does_not_end_well(images, tmp_path):
    runner = build(images, tmp_path, iterations=4, limit=100)
    with pytest.raises(InputError, match='the last 4 steps, up to iteration 4, were lost'):
        train(runner, Spoil(lambda iteration: True))
    assert names(tmp_path, 'nonfinite*') == ['nonfinite_iter_4.pth']
    assert 'iter_4.pth' in names(tmp_path)  # what else the last iteration does is done


def test_a_long_row_before_the_end_counts_at_the_end(images, tmp_path):
    """The limit is reached between the last logged iteration and the last one."""
    runner = build(images, tmp_path, iterations=14, limit=6, interval=10)
    with pytest.raises(InputError, match='the last 6 steps, up to iteration 14'):
        train(runner, Spoil(lambda iteration: iteration >= 8))


def test_bad_steps_between_good_ones_are_a_warning_and_no_end(images, tmp_path):
    runner = train(build(images, tmp_path, iterations=20, limit=6), Spoil(lambda iteration: iteration % 6 > 0))
    assert runner.iter == 20
    warnings = [line for line in log_of(runner).splitlines() if 'steps were lost' in line]
    assert len(warnings) == 1  # once, although every interval is like this
    assert 'WARNING - 4 of the last 5 steps were lost' in warnings[0]
    assert 'max_skipped' in warnings[0]
    assert names(tmp_path, 'nonfinite*') == []


def test_a_row_goes_on_when_it_is_resumed(images, tmp_path):
    def spoil():
        return Spoil(lambda iteration: iteration >= 5)

    first = train(build(images, tmp_path / 'a', iterations=9, interval=3, limit=6), spoil())
    state = torch.load(tmp_path / 'a/iter_8.pth', weights_only=True)
    assert state['message_hub']['runtime_info']['skipped_steps'] == (3, 0)
    assert first.iter == 9
    checkpoint = str(tmp_path / 'a/iter_8.pth')
    resumed = build(images, tmp_path / 'b', interval=3, limit=6, resume=True, load_from=checkpoint)
    with pytest.raises(InputError, match='the last 7 steps, up to iteration 12, were lost'):
        train(resumed, spoil())
    cured = build(images, tmp_path / 'c', iterations=12, interval=3, limit=6, resume=True, load_from=checkpoint)
    assert train(cured).iter == 12


class SpoilToy(Spoil):
    """NaN in the targets: mmengine's wrapper steps on it, and the weights are lost."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.when(runner.iter):
            data_batch['target'][0] = NAN


@pytest.mark.parametrize(
    ('loop', 'hook'),
    [
        ('IterBasedTrainLoop', 'mmmim.RuntimeInfoHook'),
        ('EpochBasedTrainLoop', 'mmengine.RuntimeInfoHook'),
        ('IterBasedTrainLoop', None),
    ],
)
def test_other_wrappers_loops_and_hooks(tmp_path, loop, hook):
    """mmengine's wrapper skips nothing: a loss that stays NaN is noticed by itself."""
    cfg = toy_config(tmp_path, custom_hooks=[])
    if hook is None:
        del cfg.default_hooks['runtime_info']
    else:
        cfg.default_hooks.runtime_info.type = hook
    cfg.default_hooks.checkpoint.interval = 2
    if loop == 'EpochBasedTrainLoop':
        cfg.train_cfg = dict(type=f'mmengine.{loop}', max_epochs=30)
        cfg.train_dataloader.sampler = dict(type='mmengine.DefaultSampler', shuffle=True)
    else:
        cfg.train_cfg.max_iters = 240
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.param_scheduler = None
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SpoilToy(lambda iteration: iteration == 7))
    with pytest.raises(InputError, match=r'the last 1\d\d steps, up to iteration 1\d\d, were lost'):
        runner.train()
    (path,) = tmp_path.glob('nonfinite*')
    assert torch.load(path, weights_only=True)['not_finite']['weights']
    assert 'iter_6.pth' in names(tmp_path) or loop == 'EpochBasedTrainLoop'


# ------------------------------------------------------------------------------------------------------------ float16


def half(images, folder, **options):
    return build(images, folder, **options, **{'optim_wrapper.dtype': 'float16', 'optim_wrapper.loss_scale': 2.0**30})


def test_looking_for_a_loss_scale_ends_no_training(images, tmp_path):
    runner = train(half(images, tmp_path, iterations=25, limit=5, interval=4))
    skipped = runner.message_hub.get_scalar('train/skipped').data[0]
    assert 6 < skipped.sum() < 25
    assert 'were lost' not in log_of(runner)


def test_nothing_but_looking_for_a_loss_scale_is_no_training(images, tmp_path):
    with pytest.raises(InputError, match=r'start lower \(optim_wrapper\.loss_scale\), or use bfloat16'):
        train(half(images, tmp_path, iterations=5))


def test_what_fp32_cures_is_said(images, tmp_path):
    """Activations beyond 65504: infinite in float16, finite in fp32."""
    runner = build(images, tmp_path, limit=3, **{'optim_wrapper.dtype': 'float16'})
    with torch.no_grad():
        runner.model.init_weights()
        runner.model.backbone.blocks[1].mlp.fc1.weight.mul_(1e6)
    runner.model.init_weights = lambda: None
    with pytest.raises(InputError, match='Nothing is learned any more'):
        train(runner)
    found = replay(str(tmp_path / 'nonfinite_iter_5.pth'))
    assert found.report.first == 'backbone.blocks.1.mlp.fc1 (Linear)'
    assert found.exact.bad_losses == found.exact.gradients == []
    assert 'In fp32 instead of float16 it is finite: set optim_wrapper.dtype=None' in found.text()
    assert 'float16, loss scale' in found.text()


# ----------------------------------------------------------------------------------------------------- captured files


def test_batches_come_back_as_they_were(tmp_path):
    from mmengine.structures import PixelData
    from mmpretrain.structures import DataSample
    from mmseg.structures import SegDataSample

    mask = random_mask(2)
    segmented = SegDataSample(metainfo={'img_path': 'a.png', 'ori_shape': (4, 5)})
    segmented.gt_sem_seg = PixelData(data=torch.ones(1, 4, 5, dtype=torch.int64))
    labelled = DataSample(metainfo={'img_path': Path('b.png')}).set_gt_label(3)
    batch = {
        'inputs': [torch.rand(3, 4, 5)] * 2,
        'mask': mask,
        'data_samples': [segmented, labelled],
        'x': (1, object()),
    }
    torch.save(pack(batch), tmp_path / 'packed.pth')
    back = unpack(torch.load(tmp_path / 'packed.pth', weights_only=True))
    assert torch.equal(back['inputs'][0], batch['inputs'][0])
    for name in ('visible', 'predict', 'image_index'):
        assert torch.equal(getattr(back['mask'], name), getattr(mask, name))
    assert (back['mask'].grid, back['mask'].offsets) == (mask.grid, None)
    one, other = back['data_samples']
    assert type(one) is SegDataSample
    assert torch.equal(one.gt_sem_seg.data, segmented.gt_sem_seg.data)
    assert one.ori_shape == (4, 5)
    assert (type(other), other.img_path, other.gt_label.tolist()) == (DataSample, 'b.png', [3])
    assert back['x'] == (1, None)
    with pytest.raises(InputError, match="'Popen', which is no known kind"):
        unpack({'__kind__': 'Popen', 'metainfo': {}, 'data': {}})


def test_a_disk_that_is_full_hides_nothing(images, tmp_path, monkeypatch):
    """The message about the training comes first, with or without a capture."""

    def full(*args):
        raise InputError('nonfinite_iter_4.pth could not be written: no space left on device.')

    monkeypatch.setattr('mmmim.engine.nonfinite.save_checkpoint_file', full)
    runner = build(images, tmp_path, iterations=4)
    with pytest.raises(InputError, match='Nothing is learned any more') as error:
        train(runner, Spoil(lambda iteration: True))
    assert 'replay' not in str(error.value)
    assert 'no space left on device' in log_of(runner)


def test_the_tool(images, tmp_path, capsys, monkeypatch):
    runner = build(images, tmp_path, iterations=2)
    with pytest.raises(InputError):
        train(runner, Spoil(lambda iteration: True, INF))
    path = tmp_path / 'nonfinite_iter_2.pth'
    tool = load_tool('analysis_tools/replay_nonfinite')
    monkeypatch.setattr('sys.argv', ['replay_nonfinite.py', str(path), '--device', 'cpu'])
    capsys.readouterr()
    tool.main()
    out = capsys.readouterr().out
    assert 'Iteration 2, seed 0, float32' in out
    assert 'NO (' in out
    capsys.readouterr()
    for wrong in (tmp_path / 'iter_2.pth', tmp_path / 'none.pth'):
        monkeypatch.setattr('sys.argv', ['replay_nonfinite.py', str(wrong)])
        with pytest.raises(SystemExit) as end:
            tool.main()
        assert end.value.code == 2
        assert str(wrong) in capsys.readouterr().err
    assert names(tmp_path, 'nonfinite*') == ['nonfinite_iter_2.pth']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda saved, hit: saved['mmmim']['model']['backbone'].update(type='os.system', command=f'touch {hit}'),
            'system',
        ),
        (lambda saved, hit: saved['batch'].update(mask={'__kind__': 'os.system'}), 'no known kind'),
        (lambda saved, hit: saved.update(dtype='load'), 'a type among'),
        (lambda saved, hit: saved['state_dict'].popitem(), '1 missing'),
        (lambda saved, hit: saved.update(batch={'inputs': 3}), 'cannot be run'),
        (lambda saved, hit: saved.update(scheduled={'backbone.forward': 3}), 'no number'),
        (lambda saved, hit: saved.update(scheduled=[1]), 'scheduled='),
        (lambda saved, hit: saved.update(not_finite={'weights': 3, 'images': []}), 'not_finite='),
        (lambda saved, hit: saved.update(iteration=INF), "iteration='inf'"),
        (lambda saved, hit: saved.update(dtype=['float16']), 'dtype='),
        (lambda saved, hit: saved.update(batch={'data_samples': [{'__kind__': 'DataSample'}]}), 'cannot be run'),
        (lambda saved, hit: saved['mmmim']['model'].update(branches=[1]), 'model.branches'),
        (
            lambda saved, hit: saved['mmmim']['model']['branches']['pixels'].update(
                target_generator={'type': 'mmmim.KMeansTokenizer', 'codebook': str(hit)}
            ),
            'target_generator.codebook=',
        ),
    ],
)
def test_captures_from_elsewhere_run_nothing(images, tmp_path, change, message):
    runner = build(images, tmp_path)
    runner.model.init_weights()
    hit, path = tmp_path / 'hit', capture(runner, next(iter(runner.train_dataloader)), {'loss': NAN})
    saved = torch.load(path, weights_only=True)
    change(saved, hit)
    torch.save(saved, path)
    with pytest.raises(InputError, match=message):
        replay(path)
    assert not hit.exists()


def test_a_step_that_is_looked_at_changes_nothing(images, tmp_path):
    runner = build(images, tmp_path)
    model, data = runner.model, next(iter(runner.train_dataloader))
    model.init_weights()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    report = run_step(model, data, (0, 0, 0), watch=True)
    assert report.with_gradient == sum(p.requires_grad for p in model.parameters())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(before[key], value)


# ----------------------------------------------------------------------------------- resuming is exact for reports too


@pytest.mark.parametrize('method', ['capi', pytest.param('mae', marks=pytest.mark.slow)])
def test_a_resumed_training_has_the_reports_of_one_that_was_not_interrupted(images, tmp_path, method):
    """What warnings compare with, and the gradient norms, to the bit; no report more and none less."""

    def start(name, **options):
        runner = build(images, tmp_path / name, method, iterations=10, interval=2, **options)
        runner.register_hook(dict(type='mmmim.HealthHook', interval=4))
        return train(runner)

    def reports(runner):
        rows = Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()
        drop = ('time', 'data_time', 'images_per_s', 'memory')
        return [{k: v for k, v in json.loads(row).items() if k not in drop} for row in rows]

    whole = start('whole', **{'default_hooks.checkpoint.max_keep_ckpts': 9})
    end = torch.load(tmp_path / 'whole/iter_10.pth', weights_only=True)['message_hub']['runtime_info']
    for saved in (2, 6):
        checkpoint = str(tmp_path / f'whole/iter_{saved}.pth')
        resumed = start(f'from_{saved}', resume=True, load_from=checkpoint)
        found = torch.load(tmp_path / f'from_{saved}/iter_10.pth', weights_only=True)['message_hub']['runtime_info']
        for key in ('health', 'health_history', 'log_history', 'skipped_steps', 'iter', 'epoch', 'max_iters', 'seed'):
            assert found[key] == end[key], key
        assert set(found) == set(end)
        assert reports(resumed) == [row for row in reports(whole) if row.get('iter', row.get('step')) > saved]


@pytest.mark.parametrize(
    'value', [None, 3, 'x', [1], (1, 'a'), (-1, 0), {'last': 'a'}, {'last': 1, 'warned': 3}, {'a': 'b'}]
)
def test_what_else_a_checkpoint_may_hold_is_none(images, tmp_path, value):
    """Stored rows, histories and baselines of another kind start anew."""
    train(build(images, tmp_path / 'a', iterations=2))
    saved = torch.load(tmp_path / 'a/iter_2.pth', weights_only=True)
    for key in ('skipped_steps', 'log_history', 'health', 'health_history'):
        saved['message_hub']['runtime_info'][key] = value
        saved['message_hub']['resumed_keys'][key] = True
    torch.save(saved, tmp_path / 'changed.pth')
    runner = build(images, tmp_path / 'b', iterations=3, resume=True, load_from=str(tmp_path / 'changed.pth'))
    runner.register_hook(dict(type='mmmim.HealthHook', interval=1))
    assert train(runner).iter == 3
    assert runner.message_hub.get_info('skipped_steps') == (0, 0)


def test_a_training_without_a_log_ends_too(images, tmp_path):
    runner = build(images, tmp_path, iterations=60, limit=6, **{'default_hooks.logger': None})
    with pytest.raises(InputError, match='up to iteration 50, were lost'):
        train(runner, Spoil(lambda iteration: iteration >= 3))
