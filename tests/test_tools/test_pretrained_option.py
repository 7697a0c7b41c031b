"""``--pretrained``, ``--encoder``, ``--weights`` and ``--trust-checkpoint``: whose encoder a downstream task has."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from PIL import Image

from mmmim.apis.downstream import apply_pretrained, pretrained_facts, set_encoder
from mmmim.engine import Runner
from mmmim.features.names import FeatureName
from mmmim.registry import LOOPS, MODELS
from mmmim.utils import InputError
from tests.toys import DIM, capi_config, save_model

#: A segmentor on any encoder, in three iterations.
CONFIG = """
default_scope = 'mmmim'
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor', mean='pretrained:mean', std='pretrained:std', size=(32, 32)
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone', checkpoint='pretrained:checkpoint', encoder='pretrained:encoder',
        out_indices=(0, -1),
    ),
    decode_head=dict(
        type='mmseg.FCNHead', in_channels='pretrained:embed_dim', channels='pretrained:embed_dim',
        num_convs=0, concat_input=False, in_index=1, num_classes=2, norm_cfg=None,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
data = dict(
    type='mmseg.BaseSegDataset', data_root='data', img_suffix='.png', metainfo=dict(classes=('a', 'b')),
    data_prefix=dict(img_path='images', seg_map_path='labels'), serialize_data=False,
    pipeline=[
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmseg.LoadAnnotations'), dict(type='mmseg.PackSegInputs'),
    ],
)
loader = dict(
    batch_size=2, num_workers=0, dataset=data, sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmengine.pseudo_collate'),
)
train_dataloader = test_dataloader = loader
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=3)
test_cfg = dict(type='mmengine.TestLoop')
test_evaluator = dict(type='mmseg.IoUMetric', ignore_index=255)
optim_wrapper = dict(
    type='mmmim.OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, fused=True),
    constructor='mmmim.RuleOptimWrapperConstructor', paramwise_cfg=dict(layer_decay=0.5),
)
default_hooks = dict(checkpoint=dict(type='mmmim.CheckpointHook', by_epoch=False, interval=2, save_last=True))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the config, a data set, and the checkpoint of a pre-training."""
    monkeypatch.chdir(tmp_path)
    Path('seg.py').write_text(CONFIG)
    rng = np.random.default_rng(0)
    for name, values in (('images', rng.integers(0, 256, (4, 32, 32, 3))), ('labels', rng.integers(0, 2, (4, 32, 32)))):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for i, one in enumerate(values.astype(np.uint8)):
            Image.fromarray(one).save(f'data/{name}/{i}.png')
    statistics = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [1, 2, 3], 'std': [4, 5, 6]}
    save_model('capi.pth', capi_config(data_preprocessor=statistics))
    return tmp_path


def build(cfg, name):
    cfg.experiment_name = name
    return Runner.from_cfg(cfg)


def test_facts(folder):
    facts = pretrained_facts('capi.pth')
    assert (facts.checkpoint, facts.encoder) == ('capi.pth', capi_config()['backbone'])
    assert (facts.embed_dim, facts.depth, facts.patch_size, facts.image_size) == (DIM, 2, 4, 16)
    assert (facts.mean, facts.std) == ([1, 2, 3], [4, 5, 6])
    for source in ('mae/small', 'configs/mae/small.py'):
        facts = pretrained_facts(source)
        assert (facts.checkpoint, facts.embed_dim, facts.patch_size, facts.image_size) == ('random', 96, 4, 32)
        assert facts.mean == pytest.approx([123.675, 116.28, 103.53])
    same = pretrained_facts('capi.pth', 'random', feature=FeatureName.of('predicted'))
    assert (same.checkpoint, same.encoder, same.mean) == ('random', capi_config()['backbone'], [1, 2, 3])
    assert same.predictor == capi_config()['branches']['capi']['neck']
    encoder = {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'depth': 2, 'weights': 'x.pth'}
    facts = pretrained_facts('random', encoder=encoder)
    assert (facts.embed_dim, facts.depth, facts.patch_size, facts.image_size) == (192, 2, 16, 224)
    assert (facts.mean, 'weights' in facts.encoder) == ([127.5] * 3, False)
    torch.save({**torch.load('capi.pth'), 'state_dict': {}}, 'bare.pth')
    for args, message in (
        (['none.pth'], 'does not exist'),
        (['none'], 'no config file and no model name'),
        (['model.safetensors'], 'timm:NAME=FILE'),
        (['random'], 'timm:NAME=FILE'),
        (['bare.pth', 'ema'], 'student weights only'),
    ):
        with pytest.raises(InputError, match=message):
            pretrained_facts(*args)


def test_placeholders():
    values = {'a': 'pretrained:embed_dim', 'b': [{'c': ['pretrained:mean']}, 'pretrained:image_size'], 'd': 'x'}
    cfg = Config({**values, 'model': {'backbone': {'type': 'mmmim.PretrainedBackbone'}}})
    apply_pretrained(cfg, 'mae/small', 'student')
    assert (cfg.a, cfg.b[1], cfg.d) == (96, 32, 'x')
    assert cfg.b[0].c[0] == pytest.approx([123.675, 116.28, 103.53])
    backbone = cfg.model.backbone
    assert (backbone.checkpoint, backbone.encoder.embed_dim, backbone.weights) == ('random', 96, 'student')
    apply_pretrained(cfg, 'mae/small', 'random')
    assert (backbone.checkpoint, backbone.weights) == ('random', 'auto')
    for values, args, message in (
        ({'a': ['pretrained:width']}, ['mae/small'], r'a\.0=.*there are pretrained:checkpoint'),
        ({'a': 1}, ['mae/small'], 'takes no pre-trained encoder'),
        ({'b': [0, 'pretrained:depth']}, [None], r'needs a pre-trained encoder \(b\.1\): --pretrained'),
        ({'a': 1}, [None, 'ema'], '--weights'),
    ):
        with pytest.raises(InputError, match=message):
            apply_pretrained(Config(values), *args)
    for wrong in ('timm', 'torch:vit', 'timm:'):
        with pytest.raises(InputError, match='write timm:NAME, mmpretrain:NAME or huggingface:FOLDER'):
            set_encoder(cfg, wrong)


def test_a_segmentor_is_trained_resumed_and_tested_without_the_pre_training(folder, tool, config_of):
    cfg = config_of('train', 'seg.py', '--pretrained', 'capi.pth', '--weights', 'student')
    assert (cfg.model.backbone.weights, cfg.model.decode_head.in_channels) == ('student', DIM)
    trained = build(cfg, 'trained').train().eval()
    before = torch.load('capi.pth')['state_dict']['backbone.patch_embed.weight']
    assert not torch.equal(trained.backbone.backbone.patch_embed.weight, before)
    Path('capi.pth').unlink()
    checkpoint = 'work_dirs/seg/iter_3.pth'

    Path('seg.py').write_text(CONFIG.replace('(0, -1)', '(-1, 0)'))  # changed after the training
    cfg = config_of('test', 'seg.py', checkpoint)
    assert (cfg.model.backbone.out_indices, cfg.model.backbone.checkpoint) == ((0, -1), 'load_from')
    runner = build(cfg, 'tested')
    assert 0 <= runner.test()['mIoU'] <= 100
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(runner.model.eval()(images), trained(images))
    cfg = config_of('test', 'seg.py', checkpoint, '--cfg-options', 'model.backbone.out_indices=[1,0]')
    assert cfg.model.backbone.out_indices == [1, 0]

    Path('seg.py').write_text(CONFIG)
    cfg = config_of('train', 'seg.py', '--resume', '--cfg-options', 'train_cfg.max_iters=4')
    build(cfg, 'resumed').train()
    assert torch.load('work_dirs/seg/iter_4.pth', weights_only=True)['meta']['iter'] == 4
    assert config_of('test', 'seg.py', 'work_dirs/seg/iter_4.pth').model.backbone.encoder.embed_dim == DIM
    cfg = config_of('train', 'seg.py', '--resume', 'work_dirs/seg')
    assert (cfg.resume, cfg.load_from) == (True, 'work_dirs/seg/iter_4.pth')

    error = tool('train', 'seg.py', '--pretrained', checkpoint, code=2)
    assert 'model trained on a pre-trained encoder' in error
    Path('cut.pth').write_bytes(Path(checkpoint).read_bytes()[:-100])
    assert 'damaged' in tool('train', 'seg.py', '--resume', 'cut.pth', code=2)


def test_a_fixed_checkpoint_of_the_config_is_completed(folder, config_of):
    text = CONFIG.replace('pretrained:checkpoint', 'capi.pth').replace("'pretrained:encoder'", 'None')
    text = text.replace("'pretrained:embed_dim'", str(DIM))
    Path('seg.py').write_text(text.replace("mean='pretrained:mean', std='pretrained:std', ", ''))
    assert config_of('train', 'seg.py').model.backbone.encoder.embed_dim == DIM
    backbone = config_of('train', 'seg.py', '--pretrained', 'mae/small').model.backbone
    assert (backbone.checkpoint, backbone.encoder.embed_dim) == ('random', 96)


def test_encoders_of_other_libraries_on_the_command_line(folder, tool, config_of):
    options = {'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'img_size': 32}
    theirs = timm.create_model('vit_tiny_patch16_224', **options)
    torch.save(theirs.state_dict(), 'theirs.bin')
    encoder = '+model.backbone.encoder'
    more = ['--cfg-options', *(f'{encoder}.{key}={value}' for key, value in options.items())]
    named = ['--encoder', 'timm:vit_tiny_patch16_224', *more]
    typed = [*more, f'{encoder}.type=mmmim.TimmEncoder', f'{encoder}.name=vit_tiny_patch16_224']
    for arguments in (named, typed):
        cfg = config_of('train', 'seg.py', '--pretrained', 'theirs.bin', *arguments)
        assert (cfg.model.decode_head.in_channels, cfg.model.data_preprocessor.mean) == (32, [127.5] * 3)
        built = MODELS.build(cfg.model).backbone.backbone.encoder
        assert torch.equal(built.patch_embed.proj.weight, theirs.patch_embed.proj.weight)
    assert config_of('train', 'seg.py', '--pretrained', 'random', *named).model.backbone.checkpoint == 'random'
    assert 'none.bin does not exist' in tool('train', 'seg.py', '--pretrained', 'none.bin', *named, code=2)
    cfg = config_of('test', 'seg.py', 'theirs.bin', '--pretrained', 'theirs.bin', *named)
    with pytest.raises(InputError, match='does not fit EncoderDecoder'):
        build(cfg, 'not_trained').load_or_resume()


def test_trust_on_the_command_line(folder, config_of):
    torch.save({**torch.load('capi.pth'), 'args': argparse.Namespace(lr=1)}, 'objects.pth')
    cfg = config_of('train', 'seg.py', '--pretrained', 'objects.pth', '--trust-checkpoint')
    assert (cfg.trust_checkpoint, cfg.model.backbone.checkpoint) == (True, 'objects.pth')
    assert build(cfg, 'trusting').model.backbone.embed_dim == DIM


@pytest.mark.parametrize(
    'name',
    ['train', 'test',
     *(f'analysis_tools/{name}' for name in ('layer_sweep', 'attention_distance', 'rankme', 'score_fashion_scenes')),
     *(f'visualization/vis_{name}' for name in ('pca', 'attention', 'tsne', 'reconstruction'))],
)  # fmt: skip
def test_every_tool_that_reads_weights_can_trust_them(name, tool, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit):
        tool(name, '--help')
    assert '--trust-checkpoint' in capsys.readouterr().out


class Fits:
    fits = True


@pytest.fixture
def fits(folder, monkeypatch):
    """A config whose protocol fits its own probe."""
    monkeypatch.setitem(LOOPS.module_dict, 'Fits', Fits)
    Path('fits.py').write_text(CONFIG.replace('mmengine.TestLoop', 'mmmim.Fits'))
    return 'fits.py'


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('test', 'seg.py --pretrained capi.pth', r'tested untrained.*tools/train\.py seg\.py --pretrained capi\.pth'),
        ('test', 'seg.py', 'would be tested untrained'),
        ('test', 'seg.py capi.pth', r'capi\.pth is a checkpoint of pre-training, without a trained head'),
        ('test', 'seg.py plain.pth', 'does not say which encoder'),
        ('test', 'seg.py none.pth', r'none\.pth does not exist'),
        ('test', 'fits.py capi.pth', r'fits its own probe.* --pretrained capi\.pth'),
        ('train', 'seg.py', r'needs a pre-trained encoder .*--pretrained'),
        ('train', 'seg.py --pretrained objects.pth', r'argparse\.Namespace.*--trust-checkpoint'),
        ('train', 'seg.py --pretrained capi.pth --resume data', 'no checkpoint of a training in the folder data'),
    ],
)
def test_what_was_never_trained_gets_no_score(folder, fits, tool, name, args, message):
    torch.save({'state_dict': {}}, 'plain.pth')
    torch.save({**torch.load('capi.pth'), 'args': argparse.Namespace(lr=1)}, 'objects.pth')
    error = tool(name, *args.split(), code=2)
    assert re.search(message, error), error


def test_a_protocol_that_fits_its_own_probe_needs_no_checkpoint(folder, fits, config_of):
    cfg = config_of('test', fits, '--pretrained', 'capi.pth')
    assert (cfg.load_from, cfg.model.backbone.checkpoint) == (None, 'capi.pth')
