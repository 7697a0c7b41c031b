"""Files that a config names: read as plain data, loaded strictly, whichever way the config spells it."""

import argparse
import os
import pickle

import pytest
import torch
from mmengine import Config
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

import mmmim
from mmmim.engine import Runner
from mmmim.engine.named_files import plain_files, strict_init_cfg
from mmmim.models import MaskedImageModeling
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.test_engine.toy_training import toy_config
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
    """As models do whose weights come from elsewhere."""

    def init_weights(self):
        pass


class OwnWay(Part):
    """Reads its file itself, as backbones of mmsegmentation do, and loads what fits."""

    def init_weights(self):
        if isinstance(self.init_cfg, dict):
            state = CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'])
            self.load_state_dict(state, strict=False)


STATE = {'layer.weight': torch.full((2, 2), 7.0), 'layer.bias': torch.full((2,), 8.0)}


@pytest.fixture
def file(tmp_path):
    whole = {f'backbone.{key}': value for key, value in STATE.items()} | {'head.weight': torch.zeros(1)}
    torch.save({'state_dict': whole}, tmp_path / 'whole.pth')
    return str(tmp_path / 'whole.pth')


def pretrained(path, **options):
    return {'type': 'Pretrained', 'checkpoint': str(path), **options}


def initialised(model):
    with strict_init_cfg(model):
        model.init_weights()
    return model


def refused(message, model):
    with pytest.raises(InputError, match=message):
        initialised(model)


SPELLINGS = [
    'Pretrained', 'mmengine.Pretrained', 'mmmim.Pretrained', 'mmseg.Pretrained', 'PretrainedInit', PretrainedInit,
    'mmengine.model.PretrainedInit', 'mmengine.model.weight_init.PretrainedInit', 'Pretrained_Part',
]  # fmt: skip


@pytest.mark.parametrize('kind', SPELLINGS, ids=str)
@pytest.mark.parametrize('parent', [Whole, Quiet])
@pytest.mark.parametrize('part', [Part, OwnWay])
def test_weights_are_loaded_strictly_however_they_are_named(file, kind, parent, part):
    named = pretrained(file, prefix='backbone.') | {'type': kind}
    for init_cfg in (named, [{'type': 'Constant', 'val': 0.0}, named]):
        model = initialised(parent(part(init_cfg=init_cfg)))
        assert model.part.layer.weight.eq(7).all()
        assert model.part.layer.bias.eq(8).all()
    misfit = r'model\.part\.init_cfg: \S*whole\.pth \(backbone\.\*\) does not fit'
    refused(misfit, parent(part(3, init_cfg=named)))
    for changes, message in (
        ({'prefix': 'encoder'}, r'no weights under encoder\.\*'),
        ({'checkpoint': f'{file}.none'}, r'model\.part\.init_cfg: The checkpoint \S* does not exist'),
        ({'checkpoint': 'open-mmlab://resnet50'}, 'local files only'),
    ):
        refused(message, parent(part(init_cfg={**named, **changes})))


def test_the_whole_and_a_part(tmp_path):
    """Of a whole model the file may have a classifier more, and nothing else."""
    for name, allowed in (('head.weight', True), ('fc.bias', True), ('other.weight', False)):
        part = {f'part.{key}': value for key, value in STATE.items()}
        torch.save({'model': {**part, name: torch.zeros(1)}}, tmp_path / 'more.pth')
        model = Whole(Part(), pretrained(tmp_path / 'more.pth'))
        if allowed:
            assert initialised(model).part.layer.weight.eq(7).all()
        else:
            refused(r'1 unexpected \(other\.weight\)', model)
    override = {'type': 'Constant', 'override': pretrained('x', name='layer')}
    refused(r'model\.part\.init_cfg\.override loads a file', Whole(Part(init_cfg=override)))
    refused(r"write dict\(type='Pretrained', checkpoint=FILE", Whole(Part(init_cfg={'type': 'Pretrained'})))
    others = [{'type': 'Constant', 'val': 3.0, 'layer': 'Linear'}]  # are left alone
    model = initialised(Whole(Part(init_cfg=list(others))))
    assert model.part.layer.weight.eq(3).all()
    assert model.part.init_cfg == others


class Evil:
    def __reduce__(self):
        return os.system, ('touch hit',)


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
    for name, content in (('evil.pth', Evil()), ('objects.pth', argparse.Namespace(b=1))):
        torch.save({'a': content}, name, _use_new_zipfile_serialization=not legacy)
        for _ in range(2):
            message = 'trust_checkpoint=True' if name == 'objects.pth' else None
            with pytest.raises((InputError, pickle.UnpicklingError), match=message), plain_files(False):
                WAYS[way](name)
    if way != 'torch':
        with plain_files(True):
            assert WAYS[way]('objects.pth')['a'].b == 1
    assert not os.path.exists('hit')
    assert dict(os.environ) == before


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
    """A weight of the saved model, and what names the file in a config."""
    torch.manual_seed(1)
    model = MODELS.build(mim())
    torch.save({'state_dict': model.state_dict(), 'mmmim': {'version': 1, 'model': mim()}, **content}, path)
    return model.state_dict()['backbone.patch_embed.weight'], pretrained(path, prefix='backbone.')


def runner_of(config, folder, **changes):
    cfg = toy_config(folder, **changes)
    cfg.model = config
    return Runner.from_cfg(cfg)


def test_a_pre_training_goes_on_from_a_file(tmp_path):
    weight, init_cfg = save_mim(tmp_path / 'x.pth')
    runner = runner_of(mim(init_cfg=init_cfg), tmp_path / 'run')
    runner._init_model_weights()
    assert isinstance(runner.model, MaskedImageModeling)
    assert torch.equal(runner.model.backbone.patch_embed.weight, weight)
    assert torch.equal(runner.model.teacher.backbone.patch_embed.weight, weight)
    narrow = runner_of(mim(init_cfg=init_cfg, num_registers=8), tmp_path / 'run')
    with pytest.raises(InputError, match=r'model\.backbone\.init_cfg: \S*x\.pth \(backbone\.\*\) does not fit ViT'):
        narrow._init_model_weights()


def test_trust_is_one_key_for_all_that_a_runner_builds(tmp_path):
    _, init_cfg = save_mim(tmp_path / 'x.pth', args=argparse.Namespace(lr=1))
    backbone = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': str(tmp_path / 'x.pth')}
    downstream = {'type': 'mmmim.FrozenFeatures', 'backbone': backbone}
    for trusts in (
        lambda **trust: runner_of(downstream, tmp_path / 'run', **trust).model.backbone,
        lambda **trust: runner_of(mim(init_cfg=init_cfg), tmp_path / 'run', **trust)._init_model_weights(),
        lambda **trust: mmmim.get_model(tmp_path / 'x.pth', **trust),
    ):
        with pytest.raises(InputError, match=r'argparse\.Namespace.*trust_checkpoint=True'):
            trusts()
        trusts(trust_checkpoint=True)


def mae_of(size, positions='sincos'):
    model = Config.fromfile(ROOT / 'configs/mae/small.py').model
    model.backbone.update(img_size=size, positions=positions)
    model.branches.pixels.neck.grid = (size // 4, size // 4)
    return model


def test_load_from_another_resolution(tmp_path):
    """Sines and cosines are those of the model; learned positions must fit."""
    trained = MODELS.build(mae_of(8))
    torch.save({'state_dict': trained.state_dict(prefix='module.')}, tmp_path / 'x.pth')
    runner = runner_of(mae_of(12), tmp_path, load_from=str(tmp_path / 'x.pth'))
    own = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.load_or_resume()
    for key, value in runner.model.state_dict().items():
        expected = own if 'positions.weight' in key else trained.state_dict()
        assert torch.equal(value, expected[key]), key
    assert sum(len(value) == 9 for key, value in own.items() if 'positions.weight' in key) == 2
    runner = runner_of(mae_of(12, 'learnable'), tmp_path, load_from=str(tmp_path / 'x.pth'))
    with pytest.raises(InputError, match=r'1 of another shape \(backbone\.positions\.weight: \[4, 96\]'):
        runner.load_or_resume()
