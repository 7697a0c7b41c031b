"""Features by name on the command line: the predictor of a checkpoint reaches probes and heads, and stays with them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmmim
from mmmim.engine import Runner
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.runs import log_of
from tests.toys import capi_config, mae_config, save_model

KNN = str(ROOT / 'configs/eval/cls_knn_fashion.py')
#: Images of two classes.
FEW = ['+fit_dataloader.dataset.indices=[0,1,2,8997,8998,8999]', '+test_dataloader.dataset.indices=6']
#: A classifier on any feature, in three iterations.
CONFIG = """
default_scope = 'mmmim'
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean='pretrained:mean', std='pretrained:std'),
    backbone=dict(
        type='mmmim.PretrainedBackbone', checkpoint='pretrained:checkpoint', encoder='pretrained:encoder',
        out_type='predicted+pooled@0',
    ),
    head=dict(
        type='mmpretrain.LinearClsHead', in_channels='pretrained:feature_dim', num_classes=2,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)
loader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root='data',
        pipeline=[dict(type='mmpretrain.LoadImageFromFile'), dict(type='mmpretrain.PackInputs')],
    ),
)
train_dataloader = test_dataloader = loader
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=3)
test_cfg = dict(type='mmengine.TestLoop')
test_evaluator = dict(type='mmpretrain.Accuracy')
optim_wrapper = dict(type='mmmim.OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, fused=True))
default_hooks = dict(checkpoint=dict(type='mmmim.CheckpointHook', by_epoch=False, interval=2, save_last=True))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder with the config, images of two classes, and checkpoints of CAPI and MAE."""
    monkeypatch.chdir(tmp_path)
    Path('cls.py').write_text(CONFIG)
    rng = np.random.default_rng(0)
    for i in range(4):
        path = tmp_path / f'data/{"ab"[i % 2]}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(path)
    config = capi_config()
    save_model('capi.pth', config)
    content = torch.load('capi.pth')
    for name in [name for name in content['state_dict'] if name.startswith('teacher.')]:
        content['state_dict'][name] = content['state_dict'][name] + 0.1  # another model than the student
    torch.save(content, 'capi.pth')
    save_model('mae.pth', mae_config())
    return tmp_path


def build(cfg, name):
    cfg.experiment_name = name
    return Runner.from_cfg(cfg)


def test_a_classifier_on_predictor_pooling_needs_no_pre_training_afterwards(folder, config_of):
    cfg = config_of('train', 'cls.py', '--pretrained', 'capi.pth', '--weights', 'student')
    neck = capi_config()['branches']['capi']['neck']
    assert (cfg.model.backbone.predictor, cfg.model.head.in_channels) == (neck, 8 + 16)
    extractor = mmmim.get_model('capi.pth', 'student')
    images = torch.randn(2, 3, 16, 16)
    wanted = extractor(images, layers=(0, -1)).pool('predicted+pooled@0')
    (found,) = MODELS.build(cfg.model).eval().backbone(images)
    torch.testing.assert_close(found, wanted)

    trained = build(cfg, 'trained').train().eval()
    assert not torch.equal(trained.backbone.predictor.mask_token, extractor.predictor.mask_token)  # it is trained, too
    Path('capi.pth').unlink()
    cfg = config_of('test', 'cls.py', 'work_dirs/cls/iter_3.pth')
    assert (cfg.model.backbone.checkpoint, cfg.model.backbone.predictor) == ('load_from', neck)
    runner = build(cfg, 'tested')
    assert 0 <= runner.test()['accuracy/top1'] <= 100
    assert torch.equal(runner.model.eval()(images), trained(images))
    cfg = config_of('train', 'cls.py', '--resume', '--cfg-options', 'train_cfg.max_iters=4')
    build(cfg, 'resumed').train()
    assert torch.load('work_dirs/cls/iter_4.pth', weights_only=True)['meta']['iter'] == 4


@pytest.mark.parametrize('weights', ['student', 'ema'])
def test_the_predictor_is_that_of_the_weights(folder, config_of, weights):
    options = ['--weights', weights, '--cfg-options', 'model.features=predicted']
    cfg = config_of('test', KNN, '--pretrained', 'capi.pth', *options)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    extractor = mmmim.get_model('capi.pth', weights)
    (found,), _ = MODELS.build(cfg.model).eval().extract(list(images.flip(1)))  # as loaders give them: BGR
    torch.testing.assert_close(found[:, 0], extractor(extractor.preprocess(images)).predicted)


def test_the_predictor_comes_only_where_it_is_asked_for(folder, config_of):
    for name in ('pooled', 'cls@0+max'):
        cfg = config_of('test', KNN, '--pretrained', 'capi.pth', '--cfg-options', f'model.features={name}')
        assert 'predictor' not in cfg.model.backbone
    text = CONFIG.replace('pretrained:checkpoint', 'capi.pth').replace("'pretrained:encoder'", 'None')
    text = text.replace("'pretrained:feature_dim'", '24')
    Path('cls.py').write_text(text.replace(", mean='pretrained:mean', std='pretrained:std'", ''))
    assert config_of('train', 'cls.py').model.backbone.predictor.embed_dim == 8


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--pretrained', 'mae.pth'], r"feature 'predicted\+pooled@0' needs a predictor .*: mae\.pth has none"),
        (['--pretrained', 'mae/small'], 'needs a predictor .* has none'),
        (
            ['--pretrained', 'random', '--encoder', 'mmpretrain:VisionTransformer'],
            'needs a predictor .* Choose another feature, such as pooled',
        ),
        (['--pretrained', 'capi.pth', '--cfg-options', 'model.backbone.out_type=all'], 'feature_dim.*give a number'),
        (['--pretrained', 'capi.pth', '--cfg-options', 'model.backbone.out_type=mean'], "no feature 'mean'"),
    ],
)
def test_refusals(folder, tool, arguments, message):
    error = tool('train', 'cls.py', *arguments, code=2)
    assert re.search(message, error), error


def test_a_teacher_without_a_predictor(folder, tool, config_of):
    save_model('some.pth', capi_config(teacher=['backbone']))
    assert 'or not with these weights' in tool('train', 'cls.py', '--pretrained', 'some.pth', code=2)
    cfg = config_of('train', 'cls.py', '--pretrained', 'some.pth', '--weights', 'student')
    assert cfg.model.backbone.predictor.embed_dim == 8


@pytest.mark.parametrize('name', ['cls_knn_fashion', 'cls_logreg_fashion'])
@pytest.mark.parametrize('feature', ['predicted', 'registers+pooled', 'registers'])
def test_fitted_protocols(name, feature, folder, config_of, fashion_scenes):
    (folder / 'data/fashion_scenes').symlink_to(fashion_scenes)
    probe, score = ('k=[1]', 'k_1/accuracy/top1') if 'knn' in name else ('c=[0.1]', 'accuracy/top1')
    options = [f'model.features={feature}', *FEW, f'test_cfg.probe.{probe}']
    config = str(ROOT / f'configs/eval/{name}.py')
    runner = build(config_of('test', config, '--pretrained', 'capi.pth', '--cfg-options', *options), f'{name}{feature}')
    assert 0 <= runner.test()[score] <= 100
    assert (f'Feature {feature}' if feature == 'predicted' else 'Block 1') in log_of(runner)


def test_a_sweep_is_of_features_of_blocks(folder, tool, fashion_scenes):
    (folder / 'data/fashion_scenes').symlink_to(fashion_scenes)
    options = [*FEW, 'test_cfg.probe.k=[1]']
    arguments = [KNN, '--pretrained', 'capi.pth', '--work-dir', 'out', '--cfg-options', *options]
    tool('analysis_tools/layer_sweep', *arguments, 'model.features=predicted+pooled')
    assert [row['layer'] for row in json.loads(Path('out/layer_sweep.json').read_text())['layers']] == [0, 1]
    error = tool('analysis_tools/layer_sweep', *arguments, 'model.features=predicted', code=2)
    assert 'is the same for every block' in error
