"""Encoders in mmpretrain's own classifiers, layer decay and runner, and the example of docs/en/features.md."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from mmpretrain.models import VisionTransformer
from mmpretrain.registry import MODELS as THEIRS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.testing import assert_close

from mmmim.engine.optim_constructor import layer_lr_mults
from mmmim.parity import Fixture
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.registered import ENCODERS, build, normalized
from tests.toys import DIM

#: As configs/mae/small.py, without its decoder.
ENCODER = {'type': 'mmmim.ViT', 'img_size': 32, 'patch_size': 4, 'embed_dim': 96, 'depth': 2, 'num_heads': 3}
ARCH = {'embed_dims': DIM, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 32}


@pytest.fixture(autouse=True)
def their_scope():
    """Names without a scope are theirs, whatever another test has made the default."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def backbone(encoder=ENCODERS['sincos, CLS'], **options):
    return {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'random', 'encoder': encoder, **options}


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize('final_norm', [True, False])
def test_outputs_of_mmpretrain_mean_the_same(out_type, final_norm):
    torch.manual_seed(0)
    # Here the final norm is of every block, there of the last one only.
    blocks = [2] if final_norm else [0, 2]
    options = {'img_size': 32, 'patch_size': 8, 'final_norm': final_norm}
    theirs = VisionTransformer(ARCH, out_type=out_type, out_indices=list(blocks), **options)
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    encoder = {'type': 'mmmim.MMPretrainEncoder', 'name': 'VisionTransformer', 'arch': ARCH, 'img_size': 32}
    ours = MODELS.build(
        backbone({**encoder, 'patch_size': 8}, out_indices=blocks, out_type=out_type, final_norm=final_norm)
    )
    state = theirs.state_dict()
    norm = {key: state.pop(key) for key in list(state) if key.startswith('ln2')}
    missing, unexpected = ours.backbone.encoder.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith('ln1') and not final_norm for key in missing)
    if norm:
        ours.ln2.load_state_dict({key.removeprefix('ln2.'): value for key, value in norm.items()})
    images = torch.randn(2, 3, 32, 48)
    theirs.eval()  # returns nothing
    for one, other in zip(ours.eval()(images), theirs(images), strict=True):
        assert_close(one, other)


LINEAR = {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': DIM}
WIDE = {**LINEAR, 'in_channels': 3 * DIM}


@pytest.mark.parametrize(
    ('options', 'neck', 'head'),
    [
        ({}, {'type': 'GlobalAveragePooling'}, LINEAR),
        ({'out_indices': (0, 2)}, {'type': 'GlobalAveragePooling'}, LINEAR),
        ({'out_type': 'avg_featmap', 'final_norm': False}, None, LINEAR),
        ({'out_type': 'cls_token'}, None, {**LINEAR, 'type': 'VisionTransformerClsHead'}),
        (
            {'out_type': 'cls@-2+cls+pooled'},
            {'type': 'ClsBatchNormNeck', 'input_features': 3 * DIM, 'affine': True},
            WIDE,
        ),
        ({'out_type': 'top3', 'frozen': True}, None, LINEAR),
    ],
)
def test_classifiers(options, neck, head):
    """A head of mmpretrain on any feature is trained, and with it all of an encoder that is not frozen."""
    model = THEIRS.build({'type': 'ImageClassifier', 'backbone': backbone(**options), 'neck': neck, 'head': head})
    model.init_weights()
    for parameter in model.head.parameters():  # those of some heads are zero
        parameter.data += torch.randn_like(parameter)
    samples = [DataSample().set_gt_label(label) for label in (0, 2, 1, 1)]
    model.train().loss(normalized(), samples)['loss'].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(name.startswith('backbone.') for name in without)
    assert any(name.startswith('backbone.backbone.blocks') for name in without) == bool(options.get('frozen'))
    scores = [sample.pred_score for sample in model.eval().predict(normalized(), samples)]
    assert_close(torch.stack(scores).sum(1), torch.ones(4))


def rates_of(named):
    """The rates of what comes before, in and after each block, from pairs of a parameter's name and its rate."""
    found = {}
    for name, rate in named:
        block = re.search(r'(?:blocks|layers)\.(\d)', name)
        after = re.search(r'norm|ln\d|head', name)
        found.setdefault(block[1] if block else 'after' if after else 'before', set()).add(round(float(rate), 12))
    return found


@pytest.mark.parametrize('encoder', ['learned, proxies', 'timm', 'mmpretrain'])
def test_layer_decay_is_that_of_the_recording(encoder):
    """mmpretrain's constructor gives every layer the rate that it gave SemanticMIM's, and so does mmmim's."""
    config = {**ENCODERS[encoder]}
    config |= {'arch': {**ARCH, 'num_layers': 4}} if encoder == 'mmpretrain' else {'depth': 4}
    model = THEIRS.build(
        {'type': 'ImageClassifier', 'backbone': backbone(config, out_type='avg_featmap'), 'head': LINEAR}
    )
    MMLogger.get_instance(encoder)
    constructor = LearningRateDecayOptimWrapperConstructor(
        {'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05}}, {'layer_decay_rate': 0.65}
    )
    groups = {group['param_name']: group['lr'] for group in constructor(model).optimizer.param_groups}
    assert groups == {name: value for name, value in layer_lr_mults(model, 0.65).items() if name in groups}

    recorded = Fixture.load(ROOT / 'tests/data/layer_decay.npz')
    key = 'semanticmim_beit_ft'
    values = zip(recorded.settings['names'][key], recorded.arrays[f'{key}.values'][:, 0], strict=True)
    assert rates_of(groups.items()) == rates_of(values)


@pytest.fixture
def folder(tmp_path):
    page = (ROOT / 'docs/en/features.md').read_text().split('## A classifier in mmpretrain')[1]
    config, script = re.findall(r'```python\n(.*?)```', page, re.DOTALL)[:2]
    (tmp_path / 'my_config.py').write_text(config)
    (tmp_path / 'train.py').write_text(script)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name, light in (('bright', 150), ('dark', 30)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(6):
                image = (light + rng.integers(0, 60, (32, 32, 3))).astype(np.uint8)
                Image.fromarray(image).save(tmp_path / split / name / f'{i}.png')
    return tmp_path


def test_a_plain_config_trains_and_tests(folder):
    before = build(ENCODER).state_dict()
    state = {f'backbone.{key}': value for key, value in before.items()}
    config = {'version': 1, 'model': {'backbone': ENCODER}}
    torch.save({'state_dict': state, 'meta': {}, 'mmmim': config}, folder / 'encoder.pth')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        [sys.executable, 'train.py'], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    scores = re.findall(r'accuracy/top1: ([\d.]+)', result.stdout + result.stderr)
    assert len(scores) == 10 + 1
    assert float(scores[-1]) > 90
    trained = torch.load(folder / 'work_dirs/my_config/epoch_10.pth', weights_only=False)['state_dict']
    names = [f'blocks.{i}.mlp.fc1.weight' for i in range(2)]
    moved = [(trained[f'backbone.backbone.{name}'] - before[name]).abs().mean() for name in names]
    assert 0 < moved[0] < moved[1]  # by the decay
