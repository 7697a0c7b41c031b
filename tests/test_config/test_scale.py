"""Recipes for another length and batch: every rule, the config that is written, and every error."""

import subprocess
import sys
from dataclasses import replace

import pytest
from mmengine import Config

import mmmim
from mmmim.config.scale import render, scale_recipe
from mmmim.engine.schedules import build_schedule
from mmmim.registry import SCHEDULES
from mmmim.utils import InputError
from tests.paths import ROOT

ITERS, BATCH, LR = 'train_cfg.max_iters', 'global_batch_size', 'optim_wrapper.optimizer.lr'
MOMENTUM = 'default_hooks.target_ema.momentum'
BASE = f'{MOMENTUM}.base'
#: The batch that the learning rate is for.
FOR = 'auto_scale_lr.base_batch_size'
WARMUPS = ['param_scheduler.schedule.warmup_ratio', f'{MOMENTUM}.warmup_ratio']


def load(name):
    return Config.fromfile(ROOT / f'configs/{name}.py').to_dict()


def toy(**options):
    """A recipe without a teacher, with options at dotted keys (a dot is written as two underscores)."""
    cfg = Config(
        {
            'global_batch_size': 4096,
            'optim_wrapper': {'optimizer': {'type': 'mmengine.AdamW', 'lr': 2.4e-3, 'betas': (0.9, 0.95)}},
            'param_scheduler': {
                'type': 'mmmim.ScheduleLR',
                'by_epoch': False,
                'schedule': {'type': 'mmmim.truncated_cosine', 'warmup_ratio': 0.05, 'truncation': 1.0},
            },
            'train_cfg': {'max_iters': 1000, 'val_interval': 100},
            'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 500}},
        }
    )
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg.to_dict()


def scale(cfg, iters=None, batch=None, lr_rule='sqrt'):
    return scale_recipe(cfg, SCHEDULES.get, iters, batch, lr_rule)


def changes(*args, **options):
    return {change.key: change.new for change in scale(*args, **options).changes}


def training(*args):
    """The changes without how often things are looked at and saved."""
    return {key: value for key, value in changes(*args).items() if not key.endswith('interval')}


@pytest.mark.parametrize(
    ('name', 'iters', 'batch', 'rule', 'expected'),
    [
        # 1 - momentum stays the learning rate, as CAPI has it: the window of 4 000 iterations is 1 % of the run.
        ('vitl14', 400_000, 1024, 'sqrt', {ITERS: 400_000, BATCH: 1024, LR: 0.00025, BASE: 0.99975, FOR: 1024}),
        ('vitl14', None, 1024, 'linear', {BATCH: 1024, LR: 6.25e-5, BASE: 0.9999375, FOR: 1024}),
        # A window of 1 000 iterations is 20 % of this run: 250 are 5 %.
        ('vitl14', 5000, None, 'sqrt', {ITERS: 5000, BASE: 0.996}),
        ('vits14', None, 32768, 'sqrt', {BATCH: 32768, LR: 0.002828, BASE: 0.997172, FOR: 32768}),
        # 40 of 300 iterations, in millionths rounded up; 3e-3 / sqrt(2); a window of 15 iterations, 5 %.
        (
            'small', 300, 32, 'sqrt',
            {ITERS: 300, BATCH: 32, LR: 0.002121, BASE: 0.93333, FOR: 32, **dict.fromkeys(WARMUPS, 0.133334)},
        ),
    ],
)  # fmt: skip
def test_capi(name, iters, batch, rule, expected):
    assert training(load(f'capi/{name}'), iters, batch, rule) == expected


def test_without_a_teacher():
    assert changes(toy(), batch=1024) == {BATCH: 1024, LR: 0.0012}
    assert changes(toy(), batch=1024, lr_rule='linear') == {BATCH: 1024, LR: 0.0006}
    assert changes(toy(), iters=2000) == {ITERS: 2000}
    assert changes(toy(), iters=100) == {ITERS: 100, 'default_hooks.checkpoint.interval': 25, WARMUPS[0]: 0.4}


@pytest.mark.parametrize('beta2', [0.5, 0.95, 0.99])
def test_the_warm_up_is_never_shorter_than_adam_needs(beta2):
    least = round(2 / (1 - beta2))
    for iters in {2 * least, 2 * least + 1, 97 + 2 * least, 7 * least + 3}:
        cfg = toy(optim_wrapper__optimizer__betas=(0.9, beta2), param_scheduler__schedule__warmup_ratio=1e-6)
        share = changes(cfg, iters=iters)[WARMUPS[0]]
        assert int(iters * share) == least
        schedule = build_schedule({'type': 'mmmim.truncated_cosine', 'warmup_ratio': share})
        assert schedule(least - 1, iters) == schedule(least, iters) == 1 > schedule(least - 2, iters)


def test_defaults_of_schedules_and_optimisers_count():
    cfg = toy()
    cfg['param_scheduler']['schedule'] = {'type': 'mmmim.truncated_cosine'}  # a warm-up of 0.1
    assert changes(cfg, iters=200)[WARMUPS[0]] == 0.2
    del cfg['optim_wrapper']['optimizer']['betas']  # 0.999: 2 000 iterations
    assert changes(cfg, iters=10_000)[WARMUPS[0]] == 0.2


@pytest.mark.parametrize('schedule', [{'type': 'cosine', 'start': 1, 'final': 0}, {'warmup_ratio': 0.0}])
def test_no_warm_up_is_added(schedule):
    cfg = toy()
    cfg['param_scheduler']['schedule'] = {'type': 'mmmim.truncated_cosine', **schedule}
    recipe = scale(cfg, iters=30)
    assert [change.key for change in recipe.changes if 'schedule' in change.key] == []
    assert any('has no warm-up' in note and '40 iterations' in note for note in recipe.notes)


@pytest.mark.parametrize(
    ('momentum', 'batch', 'scaled'),
    [
        ({'type': 'mmmim.linear', 'start': 0.99, 'final': 0.9998}, 1024, {'start': 0.995, 'final': 0.9999}),
        # Its own window is 40 % of its run.
        ({'type': 'mmmim.linear', 'start': 0.0, 'final': 0.99995}, 1024, {'final': 0.999975}),
        ({'type': 'mmmim.constant', 'value': 0.99}, 1024, {'value': 0.995}),
        ({'type': 'mmmim.constant', 'value': 0.9}, 4096 * 400, {'value': 0}),
        (0.99, 1024, {'momentum': 0.995}),
    ],
)
def test_every_kind_of_momentum(momentum, batch, scaled):
    cfg = toy(default_hooks__target_ema={'type': 'mmmim.TargetEMAHook', 'momentum': momentum})
    new = changes(cfg, iters=200_000, batch=batch)
    new = {key.rpartition('.')[2]: value for key, value in new.items() if MOMENTUM in key}
    assert new == scaled


def test_other_keys_of_the_batch_follow():
    cfg = toy(train_dataloader__batch_size=512, auto_scale_lr__base_batch_size=4096)
    new = changes(cfg, batch=1024)
    assert (new['train_dataloader.batch_size'], new['auto_scale_lr.base_batch_size']) == (None, 1024)
    assert set(changes(cfg, iters=2000)) == {ITERS}


def test_intervals():
    for name, iters, interval in (('vitl14', 5000, 1250), ('vitl14', 10_000, None), ('small', 300, 75)):
        assert changes(load(f'capi/{name}'), iters=iters).get('default_hooks.checkpoint.interval') == interval
    assert changes(load('capi/small'), iters=300)['train_cfg.val_interval'] == 75
    hooks = {'probe': {'interval': 300}, 'health': {'interval': 100}, 'logger': {'interval': None}, 'gone': None}
    cfg = toy(default_hooks=hooks, train_cfg__val_interval=3, train_cfg__max_iters=500)
    found = {key for key in changes(cfg, iters=100) if 'interval' in key}
    assert found == {'default_hooks.checkpoint.interval', 'default_hooks.probe.interval'}
    cfg = toy(default_hooks__checkpoint__by_epoch=True)
    assert set(changes(cfg, iters=100)) == {'train_cfg.max_iters', WARMUPS[0]}
    assert changes(toy(train_cfg__val_interval=600), iters=500)['train_cfg.val_interval'] == 125


def test_notes():
    notes = '\n'.join(scale(load('capi/vitl14'), iters=5000, batch=1024).notes)
    assert 'Images seen: 8 192 000 000 -> 5 120 000 (x 0.000625).' in notes
    assert r'0.5 (target_generator\.)' in notes
    assert 'balances 16 384 prototypes' in notes
    assert 'model.branches.capi.target_generator.num_prototypes and model.branches.capi.head.num_prototypes' in notes
    assert 'weight decay, betas and temperatures' in notes
    together = load('capi/vitl14')
    together['model']['branches']['capi']['target_generator']['positional'] = False
    assert 'prototypes' not in '\n'.join(scale(together, batch=1024).notes)
    notes = '\n'.join(scale(toy(), batch=1024).notes)
    assert 'prototypes' not in notes
    assert 'Parameter groups' not in notes


def test_other_optimisers():
    cfg = toy(optim_wrapper__optimizer__type='mmengine.SGD')
    del cfg['optim_wrapper']['optimizer']['betas']
    with pytest.raises(InputError, match=r'is for Adam, and the optimiser is mmengine\.SGD: give --lr-rule linear'):
        scale(cfg, batch=1024)
    assert changes(cfg, iters=10, batch=1024, lr_rule='linear')[LR] == 0.0006
    assert changes(cfg, iters=2000) == {ITERS: 2000}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'global_batch_size': None}, 'has no global_batch_size, .*: add it'),
        ({'global_batch_size': '64'}, "global_batch_size, .*, must be a whole number above 0, not '64'"),
        ({'train_cfg__max_iters': 0}, r'train_cfg\.max_iters, .* above 0, not 0'),
        ({'optim_wrapper__optimizer__lr': None}, r'has optim_wrapper\.optimizer\.lr=None: it must be a number'),
        ({'optim_wrapper__optimizer__betas': (0.9, 1.0)}, r'betas must be two numbers in \[0, 1\)'),
        ({'param_scheduler__type': 'mmengine.CosineAnnealingLR'}, 'CosineAnnealingLR.*cannot be scaled: write it as'),
        ({'param_scheduler': [{'type': 'mmmim.ScheduleLR'}]}, r'param_scheduler=.*write it as one'),
        ({'param_scheduler__end': 500}, r'param_scheduler\.end ties the schedule to iterations: remove it'),
        ({'param_scheduler__schedule__type': 'mmmim.step'}, r"schedule\.type='mmmim\.step', which is no schedule"),
        (
            {'default_hooks__target_ema__momentum': {'start': 0.99}},
            r'target_ema\.momentum\.type=None, which is no schedule',
        ),
        ({'optim_wrapper__optimizer__betas': (0.9, 0.99)}, r'200 iterations .* run of 300\. Give --iters 400 or more'),
    ],
)
def test_configs_that_cannot_be_scaled(options, message):
    cfg = toy() | options if 'param_scheduler' in options else toy(**options)
    with pytest.raises(InputError, match=message):
        scale(cfg, iters=300)


def test_the_learning_rate_among_named_schedulers():
    cfg = toy(param_scheduler__schedule__warmup_ratio=1e-6)
    decay = {'type': 'mmmim.ScheduleWeightDecay', 'by_epoch': False, 'schedule': {'type': 'mmmim.constant', 'value': 1}}
    named = {**cfg, 'param_scheduler': {'weight_decay': decay, 'lr': cfg['param_scheduler']}}
    one, other = (scale(config, iters=9000).changes for config in (cfg, named))
    renamed = [replace(change, key=change.key.replace('param_scheduler.lr.', 'param_scheduler.')) for change in other]
    assert renamed == one
    assert WARMUPS[0] in [change.key for change in one]


@pytest.mark.parametrize('name', [n for n in mmmim.list_models() if 'ablations' not in n])
def test_the_text_is_the_config_with_the_changes(name, tmp_path):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    recipe = scale(cfg.to_dict(), 5000, cfg.global_batch_size // 2)  # Adam's warm-up is up to 2000
    text = render(recipe, str(ROOT / f'configs/{name}.py'), 'A title.')
    assert max(len(line) for line in text.splitlines() if '_base_' not in line) <= 120
    (tmp_path / 'scaled.py').write_text(text)
    cfg.merge_from_dict({change.key: change.new for change in recipe.changes})
    assert Config.fromfile(tmp_path / 'scaled.py').to_dict() == cfg.to_dict()
    comments = ' '.join(line.strip(' #') for line in text.splitlines() if line.lstrip().startswith('#'))
    for said in [*recipe.notes, *(f'{change.old!r} -> {change.new!r}. {change.reason}' for change in recipe.changes)]:
        assert said in comments


def test_the_tool_prints_or_writes(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ('--batch', 512, '--lr-rule', 'linear')
    printed = tool('misc/scale_recipe', 'configs/capi/small.py', *args)
    assert f'_base_ = {str(ROOT / "configs/capi/small.py")!r}' in printed
    assert printed.startswith('# Written by scale_recipe.py small.py --batch 512 --lr-rule linear;')
    (tmp_path / 'printed.py').write_text(printed)
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/mine.py').write_text(f'_base_ = {str(ROOT / "configs/capi/small.py")!r}\n')
    assert tool('misc/scale_recipe', 'configs/mine.py', *args, '--out', 'written.py') == 'Wrote written.py.\n'
    assert "_base_ = 'configs/mine.py'" in (tmp_path / 'written.py').read_text()  # the two files can move together
    for name in ('printed.py', 'written.py'):
        cfg = Config.fromfile(tmp_path / name)
        assert (cfg.global_batch_size, cfg.optim_wrapper.optimizer.lr, cfg.train_cfg.max_iters) == (512, 0.024, 1200)
        assert cfg.default_hooks.target_ema.momentum.base == 0.6


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ('none.py --batch 8', 'error: The config none.py does not exist'),
        ('capi/small', 'error: There is nothing to scale to: give --iters, --batch or both'),
        ('capi/small --iters 0', '--iters must be at least 1, not 0'),
        ('toy.py --batch 8', 'error: The config has no train_cfg.max_iters'),
        ('toy.py --batch 8 --out toy.txt', 'give a file that ends in .py'),
        ('toy.py --batch 8 --out no/such/a.py', 'for --out does not exist'),
        ('toy.py --batch 8 --out toy.py', 'error: --out toy.py exists already'),
    ],
)
def test_errors_of_the_tool(args, message, tmp_path, monkeypatch, tool):
    (tmp_path / 'toy.py').write_text('a = 1\n')
    monkeypatch.chdir(tmp_path)
    assert message in tool('misc/scale_recipe', *args.split(), code=2)


def test_the_rules_need_no_torch():
    code = 'import sys, mmmim.config.scale; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
