"""What all command lines share, and trainings and tests by ``tools/train.py`` and ``tools/test.py``."""

import json

import pytest
import torch
from mmengine.config import Config

from mmmim.cli import train
from mmmim.cli.program import user_errors
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.progress import progress
from tests.test_engine import toy_training


def config():
    return Config(
        {
            'model': {'type': 'A', 'backbone': {'type': 'B', 'depth': 12, 'drop_path_rate': 0.1}, 'init_cfg': None},
            'optim_wrapper': {'optimizer': {'lr': 1e-3, 'betas': (0.9, 0.95)}, 'clip_grad': None},
            'train_dataloader': {'dataset': {'pipeline': [{'type': 'Load'}, {'type': 'Crop', 'scale': 224}]}},
            'train_cfg': {'max_iters': 10},
            'global_batch_size': 8,
        }
    )


@pytest.mark.parametrize(
    ('option', 'key', 'value'),
    [
        ('model.backbone.depth=24', 'model.backbone.depth', 24),
        ('optim_wrapper.optimizer.betas=(0.9,0.99)', 'optim_wrapper.optimizer.betas', (0.9, 0.99)),
        ('model.backbone.depth=[1,(2,a),None]', 'model.backbone.depth', [1, (2, 'a'), None]),
        ('model.backbone.depth=1,2', 'model.backbone.depth', [1, 2]),
        ('model.backbone=None', 'model.backbone', None),
        ('model.type=true', 'model.type', True),
        ('model.type="a,b"', 'model.type', 'a,b'),
        ("model.type='12'", 'model.type', '12'),
        ('model.type=a=b', 'model.type', 'a=b'),
        ('+model.init_cfg.type=Pretrained', 'model.init_cfg.type', 'Pretrained'),
        ('+optim_wrapper.clip_grad.max_norm=3', 'optim_wrapper.clip_grad.max_norm', 3),
        ('+model.neck.depth=3', 'model.neck.depth', 3),
        ('+model.backbone.depth=3', 'model.backbone.depth', 3),
        ('train_dataloader.dataset.pipeline.1.scale=64', 'train_dataloader.dataset.pipeline.1.scale', 64),
        ('+randomness.seed=1', 'randomness.seed', 1),
        (
            "model.backbone.depth=[dict(a='b', c=(1, -2.5)), None]",
            'model.backbone.depth',
            [{'a': 'b', 'c': (1, -2.5)}, None],
        ),
        ("model.backbone.depth=[{'a': {'b': [True]}}]", 'model.backbone.depth', [{'a': {'b': [True]}}]),
    ],
)
def test_options(option, key, value):
    cfg = config()
    merge_cfg_options(cfg, ['train_cfg.max_iters=5', option])
    node = cfg
    for part in key.split('.'):
        node = node[int(part) if isinstance(node, list) else part]
    assert node == value
    assert type(node) is type(value)
    assert cfg.train_cfg.max_iters == 5


@pytest.mark.parametrize(
    ('option', 'messages'),
    [
        ('model.backbon.depth=3', ['has no model.backbon.depth', 'Did you mean model.backbone.depth', '+model.backb']),
        ('optim_wrapper.lr=1', ['optim_wrapper.optimizer.lr']),
        ('max_iter=1', ['train_cfg.max_iters']),
        ('train_dataloader.dataset.pipeline.1.scal=3', ['train_dataloader.dataset.pipeline.1.scale']),
        ('train_dataloader.dataset.pipeline.5.scale=3', ['pipeline is a list of 2', '0 to 1']),
        ('+train_dataloader.dataset.pipeline.2.scale=3', ['is a list of 2']),
        ('optim_wrapper.clip_grad.max_norm=3', ['has no optim_wrapper.clip_grad.max_norm', '+optim_wrapper.clip_grad']),
        ('model.type.x=3', ["model.type is 'A', which has no keys"]),
        ('optim_wrapper.optimizer.betas.0=3', ['betas is (0.9, 0.95)', 'whole value']),
        ('model.backbone=[dict(depth=a)]', ['write dicts as in a config file', 'quotes around texts']),
        ('model.backbone=dict(depth=print(1))', ['write dicts as in a config file']),
        ('model.backbone=dict(**a)', ['write dicts as in a config file']),
        ('model.backbone=[dict(depth=3]', ['write dicts as in a config file']),
        *(
            (f'{plus}{key}=4', ['set that', 'global_batch_size'])
            for plus in ('', '+')
            for key in (
                *('train_dataloader.batch_size', 'batch_size', 'samples_per_gpu', 'data.samples_per_gpu'),
                *('train_dataloader.samples_per_gpu', 'batch_size_per_gpu', 'data.imgs_per_gpu'),
            )
        ),
        ('auto_scale_lr.base_batch_size=4', ['set that', 'global_batch_size']),
        ('model.backbone.depth=[1,(2]', ['brackets']),
        ('model.backbone.depth', ['write key=value']),
        ('model..depth=3', ['write key=value']),
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


@user_errors()
def fail(error):
    raise error


@user_errors()
def misspelt(name):
    MODELS.build({'type': name})


@pytest.mark.parametrize(
    ('function', 'argument', 'status', 'said'),
    [
        (fail, InputError('the file x is missing: give another.'), 2, 'error: the file x is missing: give another.\n'),
        (misspelt, 'mmmim.Misspelt', 2, 'error: mmmim.Misspelt is not in the mmmim::model registry'),
        (misspelt, 'mmmim.RoPEVit', 2, 'Did you mean mmmim.ViT?'),
        (fail, KeyboardInterrupt(), 130, 'interrupted: --resume'),
    ],
)
def test_user_errors(capsys, monkeypatch, function, argument, status, said):
    with pytest.raises(SystemExit) as exit_info:
        function(argument)
    assert exit_info.value.code == status
    assert said in capsys.readouterr().err
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit):
        fail(InputError('x' * 500))
    assert len(capsys.readouterr().err) < 120
    with pytest.raises(KeyError):
        fail(KeyError('a bug'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with the config of the toy training, trained for 20 iterations."""
    folder = tmp_path_factory.mktemp('toy')
    (folder / 'toy.py').write_text(toy_training.CONFIG.replace("custom_imports = dict(imports=['toy_training'])", ''))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv('LOCAL_RANK', '0')
        train.main(['toy.py', '--cfg-options', 'default_hooks.logger.interval=10'])
    return folder


@pytest.fixture
def toy(trained, monkeypatch):
    """The same, as the current folder."""
    monkeypatch.chdir(trained)
    return trained


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def test_train_writes_to_work_dirs(toy, tool):
    work_dir = toy / 'work_dirs/toy'
    assert torch.load(work_dir / 'iter_20.pth', weights_only=True)['meta']['iter'] == 20
    assert (work_dir / 'curves.png').exists()
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_20.pth')
    assert 'Wrote' in tool('analysis_tools/plot_curves', 'work_dirs/toy', '--out', 'a.png')
    assert (toy / 'a.png').exists()


def test_resume_from_elsewhere(toy, tmp_path, tool):
    args = ('--work-dir', tmp_path, '--no-validate', '--cfg-options', '+experiment_name=resumed')
    output = tool('train', 'toy.py', '--resume', 'work_dirs/toy/iter_10.pth', *args)
    assert 'iter_10.pth at epoch 0, iteration 10' in output
    assert 'Iter(val)' not in output
    resumed = weights(tmp_path / 'iter_20.pth')
    for key, value in weights('work_dirs/toy/iter_20.pth').items():
        assert torch.equal(resumed[key], value)


def test_tested_metrics(toy, tmp_path, tool):
    args = ('toy.py', 'work_dirs/toy/iter_20.pth', '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json')
    output = tool('test', *args, '--cfg-options', '+experiment_name=tested')
    error = json.loads((tmp_path / 'metrics.json').read_text())['error']
    assert any(line.split() == ['error', f'{error:.4f}'] for line in output.splitlines())
    error = tool('test', *args, '--cfg-options', '+experiment_name=other', 'model.width=7', code=2)
    assert 'error: ' in error
    assert 'does not fit ToyModel' in error


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('train', 'none.py', 'The config none.py does not exist'),
        ('train', 'toy.py --cfg-options model.widt=4', 'Did you mean model.width'),
        ('train', 'toy.py --resume none.pth', '--resume: the checkpoint none.pth does not exist'),
        ('train', 'toy.py --auto-scale-lr', 'toy.py has no auto_scale_lr.base_batch_size'),
        ('train', 'toy.py --amp', '--amp with the AmpOptimWrapper'),
        ('train', 'toy.py --amp --cfg-options optim_wrapper.type=Other', 'does not know'),
        ('train', 'toy.py --work-dir toy.py', 'The work folder toy.py cannot be made'),
        ('train', 'toy.py --cfg-options train_cfg=None', 'toy.py cannot be trained: it has no train_cfg'),
        ('test', 'toy.py none.pth', 'The checkpoint none.pth does not exist'),
        ('test', 'toy.py toy.py --cfg-options test_cfg=None', 'toy.py cannot be tested: it has no test_cfg'),
        ('test', 'toy.py toy.py --out no/such/a.json', '--out: the folder of no/such/a.json does not exist'),
        ('analysis_tools/plot_curves', 'no_log', 'holds no training log'),
    ],
)
def test_errors(toy, monkeypatch, tool, name, args, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    (toy / 'no_log').mkdir(exist_ok=True)
    error = tool(name, *args.split(), code=2)
    assert 'error: ' in error
    assert message in error


@pytest.mark.parametrize(
    ('name', 'args', 'took', 'first'),
    [
        ('train', '--resume x.pth --amp a', '--amp took a', 'config'),
        ('train', '--cfg-options a=1 b=2 a.py', '--cfg-options took a=1 b=2 a.py', 'config'),
        ('train', '--pretrained a.py', '--pretrained took a.py', 'config'),
        ('train', '--work-dir a.py --no-validate', '--work-dir took a.py', 'config'),
        ('test', '--cfg-options a=1 a.py x.pth', '--cfg-options took a=1 a.py x.pth', 'config checkpoint'),
        ('test', '--pretrained a.py', '--pretrained took a.py', 'config checkpoint'),
        ('analysis_tools/layer_sweep', '--layers 1 2 a.py', '--layers took 1 2 a.py', 'config'),
        ('analysis_tools/get_flops', '--cfg-options a=1 a.py', '--cfg-options took a=1 a.py', 'config'),
        ('analysis_tools/rankme', '--pool cls x.pth data', '--pool took cls x.pth data', 'CKPT DATA'),
        ('visualization/vis_pca', 'a.png --sizes 32 x.pth', '--sizes took 32 x.pth', 'IMAGES CKPT'),
        ('visualization/vis_tsne', '--classes a x.pth d', '--classes took a x.pth d', 'CKPT DATA'),
        ('misc/compare', '--seeds 1 2 spec.py', '--seeds took 1 2 spec.py', 'spec'),
    ],
)
def test_options_that_took_another_word(tool, name, args, took, first):
    message = tool(name, *args.split(), code=2).splitlines()[-1]
    assert took in message
    assert f'write {first} before the options' in message


def test_other_wrong_arguments_are_not_blamed_on_options(tool):
    for args, message in (
        ('', 'arguments are required: config'),
        ('a.py --amp float8', "invalid choice: 'float8'"),
        ('a.py --pretrained', '--pretrained: expected one argument'),
        ('a.py --res', 'unrecognized arguments: --res'),
    ):
        said = tool('train', *args.split(), code=2).splitlines()[-1]
        assert message in said
        assert 'before the options' not in said


def test_an_option_whose_value_may_be_left_out_stands_before_the_config():
    for words, found in (
        ('--amp a.py', ('a.py', 'bfloat16', None)),
        ('--resume a.py --amp', ('a.py', 'bfloat16', 'auto')),
        ('--resume --amp a.py', ('a.py', 'bfloat16', 'auto')),
        ('--amp float16 a.py --resume', ('a.py', 'float16', 'auto')),
        ('--resume x.pth a.py', ('a.py', None, 'x.pth')),
    ):
        args = train.build_parser().parse_args(words.split())
        assert (args.config, args.amp, args.resume) == found


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_mixed_precision(toy, monkeypatch, config_of, dtype):
    options = ('--cfg-options', 'optim_wrapper.type=mmmim.OptimWrapper', '+optim_wrapper.optimizer.fused=True')
    assert config_of('train', 'toy.py', '--amp', dtype, *options).optim_wrapper.dtype == dtype
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    wrapper = config_of('train', 'toy.py', '--amp', *[dtype] * (dtype != 'bfloat16')).optim_wrapper
    scale = {'bfloat16': 1.0, 'float16': 'dynamic'}[dtype]
    assert (wrapper.type, wrapper.dtype, wrapper.loss_scale) == ('mmengine.AmpOptimWrapper', dtype, scale)


def test_arguments_change_the_config(toy, config_of):
    base = '+auto_scale_lr.base_batch_size=8'
    cfg = config_of('train', 'toy.py', '--resume', '--launcher', 'slurm', '--cfg-options', base, 'load_from=x')
    assert (cfg.resume, cfg.load_from, cfg.launcher) == ('auto', 'x', 'slurm')
    cfg = config_of('train', 'toy.py', '--auto-scale-lr', '--no-validate', '--cfg-options', base)
    assert cfg.auto_scale_lr.enable is True
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    cfg = config_of('test', 'toy.py', '--out', 'b.json', 'work_dirs/toy/iter_20.pth')  # which may follow options
    assert (cfg.load_from, cfg.resume) == ('work_dirs/toy/iter_20.pth', False)
