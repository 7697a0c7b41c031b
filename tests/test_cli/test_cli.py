import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmmim.cli.program import user_errors
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.utils import InputError
from mmmim.utils.progress import progress
from tests.paths import load_tool

REPOSITORY = Path(__file__).parents[2]
TOY = REPOSITORY / 'tests' / 'test_engine'


def config():
    return Config(
        {
            'model': {'type': 'A', 'backbone': {'type': 'B', 'depth': 12, 'drop_path_rate': 0.1}, 'init_cfg': None},
            'optim_wrapper': {'optimizer': {'lr': 1e-3, 'betas': (0.9, 0.95)}, 'clip_grad': None},
            'train_dataloader': {'dataset': {'pipeline': [{'type': 'Load'}, {'type': 'Crop', 'scale': 224}]}},
            'train_cfg': {'max_iters': 10},
        }
    )


@pytest.mark.parametrize(
    ('option', 'key', 'value'),
    [
        ('model.backbone.depth=24', 'model.backbone.depth', 24),
        ('optim_wrapper.optimizer.lr=1e-4', 'optim_wrapper.optimizer.lr', 1e-4),
        ('optim_wrapper.optimizer.betas=(0.9,0.99)', 'optim_wrapper.optimizer.betas', (0.9, 0.99)),
        ('model.backbone.depth=[1,(2,a),None]', 'model.backbone.depth', [1, (2, 'a'), None]),
        ('model.backbone.depth=1,2', 'model.backbone.depth', [1, 2]),
        ('model.backbone=None', 'model.backbone', None),
        ('model.type=true', 'model.type', True),
        ('model.type=some text', 'model.type', 'some text'),
        ('model.type="a,b"', 'model.type', 'a,b'),
        ("model.type='12'", 'model.type', '12'),
        ('model.type=a=b', 'model.type', 'a=b'),
        ('+model.init_cfg.type=Pretrained', 'model.init_cfg.type', 'Pretrained'),
        ('+optim_wrapper.clip_grad.max_norm=3', 'optim_wrapper.clip_grad.max_norm', 3),
        ('+model.neck.depth=3', 'model.neck.depth', 3),
        ('+model.backbone.depth=3', 'model.backbone.depth', 3),
    ],
)
def test_options(option, key, value):
    cfg = config()
    merge_cfg_options(cfg, [option])
    node = cfg
    for part in key.split('.'):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


def test_list_index_and_several_options():
    cfg = config()
    merge_cfg_options(
        cfg, ['train_dataloader.dataset.pipeline.1.scale=64', 'train_cfg.max_iters=5', '+randomness.seed=1']
    )
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 64
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'Load'
    assert cfg.randomness.seed == 1
    assert 'scale=64' in cfg.pretty_text


@pytest.mark.parametrize(
    ('option', 'messages'),
    [
        (
            'model.backbon.depth=3',
            ['has no model.backbon.depth', 'Did you mean model.backbone.depth', '+model.backbon'],
        ),
        ('optim_wrapper.lr=1', ['optim_wrapper.optimizer.lr']),
        ('max_iter=1', ['train_cfg.max_iters']),
        ('train_dataloader.dataset.pipeline.1.scal=3', ['train_dataloader.dataset.pipeline.1.scale']),
        ('train_dataloader.dataset.pipeline.5.scale=3', ['pipeline is a list of 2', '0 to 1']),
        ('train_dataloader.dataset.pipeline.scale=3', ['is a list of 2']),
        ('+train_dataloader.dataset.pipeline.2.scale=3', ['is a list of 2']),
        ('optim_wrapper.clip_grad.max_norm=3', ['has no optim_wrapper.clip_grad.max_norm', '+optim_wrapper.clip_grad']),
        ('model.type.x=3', ["model.type is 'A', which has no keys"]),
        ('optim_wrapper.optimizer.betas.0=3', ['betas is (0.9, 0.95)', 'whole value']),
        ('model.backbone=dict(depth=3)', ['Set their keys one by one', 'model.backbone.some_key=1']),
        ('model.backbone=[dict(depth=3)]', ['Set their keys one by one']),
        ('model.backbone={a: 3}', ['Set their keys one by one']),
        ('model.backbone.depth=[1,(2]', ['brackets']),
        ('model.backbone.depth', ['write key=value']),
        ('model..depth=3', ['write key=value']),
        ('=3', ['write key=value']),
    ],
)
def test_wrong_options(option, messages):
    cfg = config()
    with pytest.raises(InputError) as error:
        merge_cfg_options(cfg, [option])
    for message in messages:
        assert message in str(error.value)
    assert cfg.to_dict() == config().to_dict()


def test_wrong_configs(tmp_path):
    (tmp_path / 'recipe.py').write_text('a = 1\n')
    with pytest.raises(InputError, match=r'recipes\.py does not exist \(in .*\)\. Did you mean .*recipe\.py'):
        load_config(str(tmp_path / 'recipes.py'))
    with pytest.raises(InputError, match='does not exist'):
        load_config('no/such/folder/x.py')
    with pytest.raises(InputError, match='is a folder'):
        load_config(str(tmp_path))
    for text, message in [
        ('a = 1\nb = undefined\n', r'bad\.py, line 2, cannot be read: NameError'),
        ('a = (\n', r'bad\.py.* SyntaxError|cannot be read'),
        ("_base_ = './none.py'\n", r'bad\.py cannot be read: FileNotFoundError.*none\.py'),
    ]:
        (tmp_path / 'bad.py').write_text(text)
        with pytest.raises(InputError, match=message):
            load_config(str(tmp_path / 'bad.py'))


def test_progress(capsys, monkeypatch):
    now = iter([0.0, 2.0, 6.0, 8.0, 12.0])
    monkeypatch.setattr('time.monotonic', lambda: next(now))
    assert list(progress('abcd', 'images')) == list('abcd')
    # Not after 2 s; after 6 s of 12; not 2 s later; at the end.
    assert capsys.readouterr().out.splitlines() == ['[2/4] images, 6 s, 6 s left', '[4/4] images, 12 s, 0 s left']


def test_user_errors(capsys, monkeypatch):
    from mmmim.registry import MODELS

    @user_errors()
    def fails(error):
        raise error

    with pytest.raises(SystemExit) as exit_info:
        fails(InputError('the file x is missing: give another.'))
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == 'error: the file x is missing: give another.\n'
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit):
        fails(InputError('x' * 500))
    assert len(capsys.readouterr().err) < 120
    monkeypatch.delenv('RANK')

    @user_errors()
    def misspelt():
        MODELS.build({'type': 'mmmim.Misspelt'})

    with pytest.raises(SystemExit):
        misspelt()
    assert 'error: mmmim.Misspelt is not in the mmmim::model registry' in capsys.readouterr().err
    with pytest.raises(KeyError):
        fails(KeyError('a bug'))

    @user_errors()
    def nearly():
        MODELS.build({'type': 'mmmim.RoPEVit'})

    with pytest.raises(SystemExit):
        nearly()
    assert 'Did you mean mmmim.ViT?' in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_info:
        fails(KeyboardInterrupt())
    assert exit_info.value.code == 130
    assert capsys.readouterr().err.startswith('interrupted: --resume')


def tool(name, *args, cwd=None, code=0, **env):
    path = f'{REPOSITORY}:{TOY}'
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path, 'PYTHON': sys.executable, **env}
    command = [str(REPOSITORY / 'tools' / name), *map(str, args)]
    if name.endswith('.py'):
        command.insert(0, sys.executable)
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    """A folder with the config of the toy training, trained for 20 iterations."""
    sys.path.insert(0, str(TOY))
    try:
        import toy_training
    finally:
        sys.path.remove(str(TOY))
    folder = tmp_path_factory.mktemp('toy')
    (folder / 'toy.py').write_text(toy_training.CONFIG)
    tool('train.py', folder / 'toy.py', '--cfg-options', 'default_hooks.logger.interval=10', cwd=folder)
    return folder


def test_train_writes_to_work_dirs(toy):
    work_dir = toy / 'work_dirs' / 'toy'
    assert torch.load(work_dir / 'iter_20.pth', weights_only=True)['meta']['iter'] == 20
    assert (work_dir / 'curves.png').exists()
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_20.pth')


def test_resume_from_elsewhere(toy, tmp_path):
    checkpoint = toy / 'work_dirs' / 'toy' / 'iter_10.pth'
    output = tool('train.py', toy / 'toy.py', '--work-dir', tmp_path / 'w', '--resume', checkpoint, '--no-validate')
    assert 'iter_10.pth at epoch 0, iteration 10' in output
    assert 'Iter(val)' not in output
    a, b = (torch.load(f / 'iter_20.pth', weights_only=True) for f in (checkpoint.parent, tmp_path / 'w'))
    for key, value in a['state_dict'].items():
        assert torch.equal(b['state_dict'][key], value)


def test_tested_metrics(toy, tmp_path):
    checkpoint, out = toy / 'work_dirs' / 'toy' / 'iter_20.pth', tmp_path / 'metrics.json'
    output = tool('test.py', toy / 'toy.py', checkpoint, '--work-dir', tmp_path, '--out', out)
    error = json.loads(out.read_text())['error']
    assert any(line.split() == ['error', f'{error:.4f}'] for line in output.splitlines())


def test_error_of_a_whole_run(toy, tmp_path):
    checkpoint, options = toy / 'work_dirs' / 'toy' / 'iter_20.pth', ['--cfg-options', 'model.width=7']
    output = tool('test.py', toy / 'toy.py', checkpoint, '--work-dir', tmp_path, *options, code=2)
    assert 'error: ' in output
    assert 'does not fit ToyModel' in output
    assert 'Traceback' not in output


def test_plot_curves(toy, tmp_path):
    output = tool('analysis_tools/plot_curves.py', 'work_dirs/toy', '--out', tmp_path / 'a.png', cwd=toy)
    assert 'Wrote' in output
    assert (tmp_path / 'a.png').exists()
    assert 'holds no training log' in tool('analysis_tools/plot_curves.py', tmp_path, code=2)


def test_tools_parse_before_they_import():
    for name in ('train.py', 'test.py'):
        start = time.perf_counter()
        tool(name, '--help')
        assert time.perf_counter() - start < 1.5


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['none.py'], 'error: The config none.py does not exist'),
        (['toy.py', '--cfg-options', 'model.widt=4'], 'Did you mean model.width'),
        (['toy.py', '--resume', 'none.pth'], 'error: --resume: the checkpoint none.pth does not exist'),
        (['toy.py', '--auto-scale-lr'], 'toy.py has no auto_scale_lr.base_batch_size'),
        (['toy.py', '--amp'], 'error: --amp with the AmpOptimWrapper'),
        (['toy.py', '--work-dir', 'toy.py'], 'error: The work folder toy.py cannot be made'),
        (['toy.py', '--cfg-options', 'train_cfg=None'], 'toy.py cannot be trained: it has no train_cfg'),
    ],
)
def test_train_errors(toy, monkeypatch, capsys, args, message):
    """In this process: each tool start imports torch for seconds."""
    monkeypatch.chdir(toy)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', ['train.py', *args])
    with pytest.raises(SystemExit) as exit_info:
        load_tool('train').main()
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['toy.py', 'none.pth'], 'error: The checkpoint none.pth does not exist'),
        (['toy.py', 'toy.py', '--cfg-options', 'test_cfg=None'], 'toy.py cannot be tested: it has no test_cfg'),
        (['toy.py', 'toy.py', '--out', 'no/such/a.json'], '--out: the folder of no/such/a.json does not exist'),
    ],
)
def test_test_errors(toy, monkeypatch, capsys, args, message):
    monkeypatch.chdir(toy)
    monkeypatch.setattr(sys, 'argv', ['test.py', *args])
    with pytest.raises(SystemExit) as exit_info:
        load_tool('test').main()
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('tool_name', 'args', 'took', 'first'),
    [
        ('train', ['--amp', 'a.py'], '--amp took a.py', 'config'),
        ('train', ['--resume', 'a.py'], '--resume took a.py', 'config'),
        ('train', ['--resume', 'x.pth', '--amp', 'a.py'], '--amp took a.py', 'config'),
        ('train', ['--cfg-options', 'a=1', 'b=2', 'a.py'], '--cfg-options took a=1 b=2 a.py', 'config'),
        ('train', ['--pretrained', 'a.py'], '--pretrained took a.py', 'config'),
        ('train', ['--work-dir', 'a.py', '--no-validate'], '--work-dir took a.py', 'config'),
        ('test', ['--cfg-options', 'a=1', 'a.py', 'x.pth'], '--cfg-options took a=1 a.py x.pth', 'config checkpoint'),
        ('test', ['--pretrained', 'a.py'], '--pretrained took a.py', 'config checkpoint'),
        ('analysis_tools/layer_sweep', ['--layers', '1', '2', 'a.py'], '--layers took 1 2 a.py', 'config'),
        ('analysis_tools/get_flops', ['--cfg-options', 'a=1', 'a.py'], '--cfg-options took a=1 a.py', 'config'),
        ('analysis_tools/rankme', ['--pool', 'cls', 'x.pth', 'data'], '--pool took cls x.pth data', 'CKPT DATA'),
        ('visualization/vis_pca', ['a.png', '--sizes', '32', 'x.pth'], '--sizes took 32 x.pth', 'IMAGES CKPT'),
        ('visualization/vis_tsne', ['--classes', 'a', 'x.pth', 'd'], '--classes took a x.pth d', 'CKPT DATA'),
        ('misc/compare', ['--seeds', '1', '2', 'spec.py'], '--seeds took 1 2 spec.py', 'spec'),
    ],
)
def test_options_that_took_another_word(monkeypatch, capsys, tool_name, args, took, first):
    monkeypatch.setattr(sys, 'argv', [tool_name, *args])
    with pytest.raises(SystemExit) as exit_info:
        load_tool(tool_name).main()
    assert exit_info.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert took in message
    assert f'write {first} before the options' in message


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'arguments are required: config'),
        (['a.py', '--amp', 'float8'], "invalid choice: 'float8'"),
        (['a.py', '--pretrained'], '--pretrained: expected one argument'),
        (['a.py', '--res'], 'unrecognized arguments: --res'),
    ],
)
def test_other_wrong_arguments_are_not_blamed_on_options(monkeypatch, capsys, args, message):
    monkeypatch.setattr(sys, 'argv', ['train.py', *args])
    with pytest.raises(SystemExit):
        load_tool('train').main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert message in said
    assert 'before the options' not in said


def test_arguments_change_the_config(toy, monkeypatch):
    train = load_tool('train')
    monkeypatch.chdir(toy)

    def build(*args):
        monkeypatch.setattr(sys, 'argv', ['train.py', 'toy.py', *args])
        return train.build_config(train.parse_args())

    cfg = build('--resume', '--launcher', 'slurm', '--cfg-options', '+auto_scale_lr.base_batch_size=8', 'load_from=x')
    assert (cfg.resume, cfg.load_from, cfg.launcher) == ('auto', 'x', 'slurm')
    cfg = build('--auto-scale-lr', '--cfg-options', '+auto_scale_lr.base_batch_size=8')
    assert cfg.auto_scale_lr.enable is True
    cfg = build(
        '--amp', '--cfg-options', 'optim_wrapper.type=mmmim.OptimWrapper', '+optim_wrapper.optimizer.fused=True'
    )
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    fused = '+optim_wrapper.optimizer.fused=True'
    cfg = build('--amp', 'float16', '--cfg-options', 'optim_wrapper.type=mmmim.OptimWrapper', fused)
    assert cfg.optim_wrapper.dtype == 'float16'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = build('--amp')
    assert cfg.optim_wrapper.type == 'mmengine.AmpOptimWrapper'
    assert (cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == ('bfloat16', 1.0)
    cfg = build('--amp', 'float16')
    assert (cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == ('float16', 'dynamic')
    with pytest.raises(InputError, match='does not know'):
        build('--amp', '--cfg-options', 'optim_wrapper.type=Other')
    cfg = build('--no-validate')
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
