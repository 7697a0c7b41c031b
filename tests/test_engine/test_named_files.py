"""Files that a config names: read as plain data, loaded strictly, whichever way the config spells it."""

import argparse
import os
import pickle

import pytest
import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn
from toy_training import toy_config

import mmmim
from mmmim.engine import Runner
from mmmim.engine.named_files import plain_files, strict_init_cfg
from mmmim.models import MaskedImageModeling
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.toys import capi_config


class Part(BaseModule):
    def __init__(self, width=2, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(width, width)


class Whole(BaseModule):
    def __init__(self, part=None, init_cfg=None):
        super().__init__(init_cfg)
        self.part = part or Part()


class Quiet(Whole):
    """Leaves its parts alone, as models do whose weights come from elsewhere."""

    def init_weights(self):
        pass


class OwnWay(Part):
    """Reads its file itself, as backbones of mmsegmentation do, and loads what fits."""

    def init_weights(self):
        if isinstance(self.init_cfg, dict):
            state = CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'])
            self.load_state_dict(state, strict=False)


@pytest.fixture
def file(tmp_path):
    """Weights of a part in those of a model."""
    state = {'layer.weight': torch.full((2, 2), 7.0), 'layer.bias': torch.full((2,), 8.0)}
    whole = {f'backbone.{key}': value for key, value in state.items()} | {'head.weight': torch.zeros(1)}
    torch.save({'state_dict': whole}, tmp_path / 'whole.pth')
    torch.save({'state_dict': state}, tmp_path / 'part.pth')
    return tmp_path


def initialised(model):
    with strict_init_cfg(model):
        model.init_weights()
    return model


SPELLINGS = [
    'Pretrained', 'mmengine.Pretrained', 'mmmim.Pretrained', 'mmseg.Pretrained', 'PretrainedInit', PretrainedInit,
    'mmengine.model.PretrainedInit', 'mmengine.model.weight_init.PretrainedInit', 'Pretrained_Part',
]  # fmt: skip


@pytest.mark.parametrize('kind', SPELLINGS, ids=str)
@pytest.mark.parametrize('as_list', [False, True])
@pytest.mark.parametrize('parent', [Whole, Quiet])
@pytest.mark.parametrize('part', [Part, OwnWay])
def test_weights_are_loaded_strictly_however_they_are_named(file, kind, as_list, parent, part):
    named = {'type': kind, 'checkpoint': str(file / 'whole.pth'), 'prefix': 'backbone.'}
    model = initialised(parent(part(init_cfg=[{'type': 'Constant', 'val': 0.0}, named] if as_list else named)))
    assert model.part.layer.weight.eq(7).all()
    assert model.part.layer.bias.eq(8).all()
    with pytest.raises(InputError, match=r'model\.part\.init_cfg: \S*whole\.pth \(backbone\.\*\) does not fit'):
        initialised(parent(part(3, init_cfg=dict(named))))
    with pytest.raises(InputError, match=r'no weights under encoder\.\*'):
        initialised(parent(part(init_cfg={**named, 'prefix': 'encoder'})))
    with pytest.raises(InputError, match=r'model\.part\.init_cfg: The checkpoint \S* does not exist'):
        initialised(parent(part(init_cfg={**named, 'checkpoint': str(file / 'none.pth')})))
    with pytest.raises(InputError, match='local files only'):
        initialised(parent(part(init_cfg={**named, 'checkpoint': 'open-mmlab://resnet50'})))


def test_the_whole_and_a_part(file):
    model = initialised(Whole(Part(), {'type': 'Pretrained', 'checkpoint': save_whole(file)}))
    assert model.part.layer.weight.eq(7).all()
    override = {'type': 'Constant', 'override': {'type': 'Pretrained', 'checkpoint': 'x', 'name': 'layer'}}
    with pytest.raises(InputError, match=r'model\.part\.init_cfg\.override loads a file'):
        initialised(Whole(Part(init_cfg=override)))
    with pytest.raises(InputError, match=r"write dict\(type='Pretrained', checkpoint=FILE"):
        initialised(Whole(Part(init_cfg={'type': 'Pretrained'})))


def save_whole(folder):
    state = torch.load(folder / 'part.pth')['state_dict']
    torch.save({f'part.{key}': value for key, value in state.items()}, folder / 'bare.pth')
    return str(folder / 'bare.pth')


def test_a_classifier_is_left_out_and_nothing_else(file):
    state = torch.load(file / 'part.pth')['state_dict']
    for name, allowed in (('head.weight', True), ('fc.bias', True), ('other.weight', False)):
        torch.save({'model': {**state, name: torch.zeros(1)}}, file / 'more.pth')
        model = Whole(Part(init_cfg={'type': 'Pretrained', 'checkpoint': str(file / 'more.pth')}))
        if allowed:
            assert initialised(model).part.layer.weight.eq(7).all()
        else:
            with pytest.raises(InputError, match=r'1 unexpected \(other\.weight\)'):
                initialised(model)


def test_other_initialisers_are_left_alone():
    model = initialised(Whole(Part(init_cfg=[{'type': 'Constant', 'val': 3.0, 'layer': 'Linear'}])))
    assert model.part.layer.weight.eq(3).all()
    assert model.part.init_cfg == [{'type': 'Constant', 'val': 3.0, 'layer': 'Linear'}]


class Evil:
    def __reduce__(self):
        return os.system, ('touch hit',)


class Loader(BaseModule):
    """A model that reads a file in a way of its own when it is built."""

    def __init__(self, way, path, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(2, 2)
        self.found = way(path)


WAYS = {
    'mmengine': CheckpointLoader.load_checkpoint,
    'torch': torch.load,
    'torch, not weights only': lambda path: torch.load(path, weights_only=False),
}


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_no_way_of_reading_runs_code(tmp_path, monkeypatch, way, legacy):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    torch.save({'a': Evil()}, 'evil.pth', _use_new_zipfile_serialization=not legacy)
    torch.save({'a': argparse.Namespace(b=1)}, 'objects.pth', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError), plain_files(False):
        Loader(WAYS[way], 'evil.pth')
    with pytest.raises(InputError, match='trust_checkpoint=True'), plain_files(False):
        Loader(WAYS[way], 'objects.pth')
    if way != 'torch':
        with plain_files(True):
            assert Loader(WAYS[way], 'objects.pth').found['a'].b == 1
    assert not os.path.exists('hit')
    assert dict(os.environ) == before
    with pytest.raises((pickle.UnpicklingError, InputError)), plain_files(False):
        Loader(WAYS[way], 'evil.pth')


def test_addresses_are_refused():
    for path in ('https://example.org/a.pth', 'torchvision://resnet50', 'open-mmlab://resnet50', 's3://a/b.pth'):
        with pytest.raises(InputError, match='local files only'), plain_files(False):
            CheckpointLoader.load_checkpoint(path)
    assert len(CheckpointLoader._schemes) > 1


def mim(**backbone):
    config = capi_config()
    config['backbone'] |= backbone
    return config


def save_mim(path, **content):
    torch.manual_seed(1)
    model = MODELS.build(mim())
    torch.save({'state_dict': model.state_dict(), 'mmmim': {'version': 1, 'model': mim()}, **content}, path)
    return model.state_dict()['backbone.patch_embed.weight']


def runner_of(config, folder, **changes):
    cfg = toy_config(folder, **changes)
    cfg.model = config
    return Runner.from_cfg(cfg)


def test_a_pre_training_goes_on_from_a_file(tmp_path):
    """The runner loads before the teacher copies the student."""
    weight = save_mim(tmp_path / 'x.pth')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'x.pth'), 'prefix': 'backbone.'}
    runner = runner_of(mim(init_cfg=init_cfg), tmp_path / 'run')
    runner._init_model_weights()
    assert isinstance(runner.model, MaskedImageModeling)
    assert torch.equal(runner.model.backbone.patch_embed.weight, weight)
    assert torch.equal(runner.model.teacher.backbone.patch_embed.weight, weight)
    narrow = runner_of(mim(init_cfg=init_cfg, num_registers=8), tmp_path / 'run')
    with pytest.raises(InputError, match=r'model\.backbone\.init_cfg: \S*x\.pth \(backbone\.\*\) does not fit ViT'):
        narrow._init_model_weights()


def test_trust_is_one_key_for_all_that_a_runner_builds(tmp_path):
    weight = save_mim(tmp_path / 'x.pth', args=argparse.Namespace(lr=1))
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'x.pth'), 'prefix': 'backbone.'}
    downstream = {'type': 'mmmim.FrozenFeatures', 'backbone': {'type': 'mmmim.PretrainedBackbone'}}
    downstream['backbone']['checkpoint'] = str(tmp_path / 'x.pth')
    with pytest.raises(InputError, match=r'argparse\.Namespace.*trust_checkpoint=True'):
        runner_of(downstream, tmp_path / 'run')
    assert runner_of(downstream, tmp_path / 'run', trust_checkpoint=True).model.layers == (1,)
    runner = runner_of(mim(init_cfg=init_cfg), tmp_path / 'run', trust_checkpoint=True)
    runner._init_model_weights()
    assert torch.equal(runner.model.backbone.patch_embed.weight, weight)
    with pytest.raises(InputError, match=r'argparse\.Namespace'):
        runner_of(mim(init_cfg=init_cfg), tmp_path / 'run')._init_model_weights()
    with pytest.raises(InputError, match=r'argparse\.Namespace'):
        mmmim.get_model(tmp_path / 'x.pth')
    assert mmmim.get_model(tmp_path / 'x.pth', trust_checkpoint=True).patch_size == 4


def mae_of(size, positions='sincos'):
    encoder = {'type': 'mmmim.ViT', 'img_size': size, 'patch_size': 4, 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
    decoder = {'type': 'mmmim.SelfAttentionPredictor', 'context_dim': 8, 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
    branch = {
        'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': 4},
        'neck': {**decoder, 'grid': (size // 4, size // 4), 'out_dim': 48},
        'head': {'type': 'mmmim.RegressionHead'},
    }
    backbone = {**encoder, 'positions': positions}
    return {'type': 'mmmim.MaskedImageModeling', 'backbone': backbone, 'branches': {'pixels': branch}}


def test_load_from_another_resolution(tmp_path):
    """Sines and cosines are those of the model; learned positions must fit."""
    trained = MODELS.build(mae_of(8))
    torch.save({'state_dict': trained.state_dict(prefix='module.')}, tmp_path / 'x.pth')
    runner = runner_of(mae_of(12), tmp_path, load_from=str(tmp_path / 'x.pth'))
    model = runner.model
    tables = [model.backbone.positions.weight.clone(), model.branches.pixels.neck.positions.weight.clone()]
    assert [len(table) for table in tables] == [9, 9]
    runner.load_or_resume()
    assert torch.equal(model.backbone.positions.weight, tables[0])
    assert torch.equal(model.branches.pixels.neck.positions.weight, tables[1])
    for key, value in trained.state_dict().items():
        if 'positions.weight' not in key:
            assert torch.equal(model.state_dict()[key], value)
    runner = runner_of(mae_of(12, 'learnable'), tmp_path, load_from=str(tmp_path / 'x.pth'))
    with pytest.raises(InputError, match=r'1 of another shape \(backbone\.positions\.weight: \[4, 8\]'):
        runner.load_or_resume()
