"""What a file says of its model is never imported, called or opened: through every reader that builds it."""

import builtins
import copy
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine import Config
from torch import nn

import mmmim
from mmmim.apis import FeatureExtractor
from mmmim.apis.downstream import apply_trained, pretrained_facts
from mmmim.checkpoints.pretrained import load_pretrained
from mmmim.checkpoints.stored_config import check_stored_model
from mmmim.config.resources import resources
from mmmim.models import Encoder
from mmmim.models.stored import build_stored
from mmmim.registry import MODELS, WEIGHT_INITIALIZERS
from mmmim.utils import InputError
from mmmim.visualization.reconstruction import Reconstructor

VIT = {'type': 'mmmim.ViT', 'img_size': 8, 'patch_size': 4, 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
NECK = {'type': 'mmmim.SelfAttentionPredictor', 'context_dim': 8, 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
NECK |= {'grid': (2, 2), 'out_dim': 48}


def mae():
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': dict(VIT),
        'branches': {'pixels': {'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': 4},
                                'neck': dict(NECK), 'head': {'type': 'mmmim.RegressionHead'}}},
        'data_preprocessor': {'type': 'mmmim.MIMDataPreprocessor'},
    }  # fmt: skip


def segmentor():
    return {
        'type': 'mmseg.EncoderDecoder',
        'data_preprocessor': {'type': 'mmseg.SegDataPreProcessor', 'size': (8, 8)},
        'backbone': {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'was.pth', 'encoder': dict(VIT)},
        'decode_head': {
            'type': 'mmseg.FCNHead', 'in_channels': 8, 'channels': 8, 'num_convs': 1, 'num_classes': 2,
            'norm_cfg': {'type': 'SyncBN'}, 'loss_decode': [{'type': 'mmseg.CrossEntropyLoss'}],
        },
        'test_cfg': {'mode': 'whole'},
    }  # fmt: skip


def put(model, path, value):
    """The model, with a copy of a value at a dotted path."""
    node = model
    *way, last = [int(step) if step.isdigit() else step for step in path.split('.')]
    for step in way:
        node = node[step]
    node[last] = copy.deepcopy(value)
    return model


def save(model, path, state=None):
    state = {'backbone.x': torch.zeros(1)} if state is None else state
    torch.save({'state_dict': state, 'meta': {}, 'mmmim': {'version': 1, 'model': model}}, path)
    return str(path)


def read_downstream(file):
    """The reader of ``test.py CONFIG SEGMENTOR`` and of ``train.py CONFIG --resume``."""
    backbone = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'pretrained:checkpoint'}
    cfg = Config({'model': {'backbone': backbone}, 'channels': 'pretrained:embed_dim'})
    return apply_trained(cfg, file), cfg


READERS = {
    'get_model': lambda path: mmmim.get_model(path),
    'FeatureExtractor': lambda path: FeatureExtractor(torch.load(path)['mmmim']['model'], {}, path),
    'PretrainedBackbone': lambda path: MODELS.build({'type': 'mmmim.PretrainedBackbone', 'checkpoint': path}),
    'pretrained_facts': pretrained_facts,
    'load_pretrained': load_pretrained,
    'Reconstructor': Reconstructor.from_checkpoint,
}


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A current folder where anything that is run, imported or opened leaves a mark."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ('evil', 'SegLoss'):
        (tmp_path / f'{name}.py').write_text("open('hit', 'w').close()\nclass Evil:\n    pass\n")
    hit = []
    for module, name in ((os, 'system'), (os, 'popen'), (subprocess, 'Popen'), (runpy, 'run_path')):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: hit.append(args))
    opened, real = [], builtins.open
    names = ('secret', 'evil.pkl', 'evil.pth')

    def watched(file, *args, **kwargs):
        if str(file).endswith(names):
            opened.append(file)
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', watched)
    yield tmp_path
    assert not hit
    assert not opened
    assert not (tmp_path / 'hit').exists()
    assert 'evil' not in sys.modules


def command(kind='os.system'):
    return {'type': kind, 'command': 'touch hit'}


#: What is wrong in the backbone of a model, and what the message must name.
BACKBONES = {
    'os.system': command(),
    'builtins.eval': {'type': 'builtins.eval', 'source': 'open("hit", "w")'},
    'mmengine.Config.fromfile': {'type': 'mmengine.Config.fromfile', 'filename': 'evil.py'},
    'mmmim.get_model': {'type': 'mmmim.get_model', 'source': 'evil.pth'},
    'module': {'type': 'evil'},
    'class of a module': {'type': 'evil.Evil'},
    'dotted class': {'type': 'mmmim.models.backbones.vit.ViT', **{k: v for k, v in VIT.items() if k != 'type'}},
    'other registry': {'type': 'mmengine.Pretrained', 'checkpoint': 'evil'},
    'a hook': {'type': 'mmmim.CheckpointHook'},
    'function': {'type': 'mmpretrain.RAM'},
    'downloads': {'type': 'mmpretrain.HuggingFaceClassifier', 'model_name': 'a'},
    'timm of mmpretrain': {'type': 'mmpretrain.TIMMBackbone', 'model_name': 'resnet18'},
    'scope': {**VIT, '_scope_': 'evil'},
    'type is a list': {**VIT, 'type': ['os.system']},
    'custom_imports': {**VIT, 'custom_imports': {'imports': ['evil']}},
    'base': {**VIT, '_base_': 'evil.py'},
    'init_cfg': {**VIT, 'init_cfg': {'type': 'Pretrained', 'checkpoint': 'evil.pth'}},
    'init_cfg in a list': {**VIT, 'init_cfg': [{'type': 'Constant', 'val': 0}, {'type': 'mmengine.Pretrained'}]},
    'init_cfg runs': {**VIT, 'init_cfg': command()},
    'init_cfg overrides': {**VIT, 'init_cfg': {'type': 'Constant', 'override': {'type': 'os.system'}}},
    'nested': {**VIT, 'norm': {'a': [{'b': ({'c': [command()]},)}]}},
    'checkpoint': {**VIT, 'checkpoint': 'evil.pth'},
    'pretrained': {'type': 'mmseg.ResNetV1c', 'depth': 18, 'pretrained': 'open-mmlab://resnet'},
    'timm checkpoint': {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'checkpoint_path': 'secret'},
    'timm weights': {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'weights': 'secret'},
    'timm downloads': {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'pretrained': True},
    'timm cfg': {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'pretrained_cfg': {'file': 'secret'}},
    'transformers weights': {'type': 'mmmim.HuggingFaceEncoder', 'name': 'vit', 'weights': 'secret'},
    'transformers code': {'type': 'mmmim.HuggingFaceEncoder', 'name': 'vit', 'trust_remote_code': True},
    'mmpretrain name': {'type': 'mmmim.MMPretrainEncoder', 'name': 'apis.get_model', 'model': 'resnet18'},
    'codebook': {'type': 'mmmim.KMeansTokenizer', 'codebook': 'secret'},
    'path': {**VIT, 'norm': '../secret'},
    'text': 'os.system',
    'unknown argument': {**VIT, 'depht': 3},
    'depth without end': {**VIT, 'depth': 10**9},
    'width of a terabyte': {**VIT, 'embed_dim': 4 * 10**5, 'num_heads': 10**5},
    'numbers without end': {**VIT, 'img_size': 4 * 10**6},
    'depth of a million': {**VIT, 'depth': 10**6},
    'number of a wrong kind': {**VIT, 'depth': 'one'},
}  # fmt: skip


#: What costs nothing where nothing is built, or sizes only.
HARMLESS = {
    'load_pretrained': ['unknown argument', 'mmpretrain name', 'depth of a million', 'width of a terabyte',
                        'number of a wrong kind'],
}  # fmt: skip


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('name', BACKBONES)
def test_a_backbone_that_is_none_is_refused(trap, name, reader):
    path = save(put(mae(), 'backbone', BACKBONES[name]), trap / 'x.pth')
    if name in HARMLESS.get(reader, ()):
        READERS[reader](path)
        return
    with pytest.raises(InputError, match=r'x\.pth'):
        READERS[reader](path)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize(
    'path',
    ['type', 'data_preprocessor', 'branches.pixels.neck', 'branches.pixels.head', 'branches.pixels.target_generator',
     'branches.pixels.neck.norm_cfg', 'data_preprocessor.x'],
)  # fmt: skip
def test_commands_are_refused_wherever_they_stand(trap, path, reader):
    model = put(mae(), path, 'os.system' if path == 'type' else command())
    with pytest.raises(InputError, match=rf'x\.pth: model\.{path}.*os\.system'):
        READERS[reader](save(model, trap / 'x.pth'))


INNER = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'evil.pth', 'encoder': dict(VIT)}
#: A path, a value, and what the message says besides the file.
DOWNSTREAM_HOLES = [
    ('type', 'os.system', 'os.system'),
    ('backbone.encoder', command(), 'os.system'),
    ('backbone.encoder.norm_cfg', command(), 'os.system'),
    ('backbone.encoder', INNER, r"model\.backbone\.encoder\.checkpoint='evil\.pth' names a file"),
    ('backbone.predictor', command(), 'os.system'),
    ('backbone.predictor', INNER, r"model\.backbone\.predictor\.checkpoint='evil\.pth' names a file"),
    ('backbone.encoder.extra', INNER, r"model\.backbone\.encoder\.extra\.checkpoint='evil\.pth' names a file"),
    ('backbone.init_cfg', {'type': 'Pretrained', 'checkpoint': 'evil.pth'}, 'would load another file'),
    ('backbone.trust_checkpoint', True, 'trust_checkpoint'),
    ('backbone.encoder.depth', 10**9, 'no size of one'),
    ('backbone.encoder.depht', 2, 'depht'),
    ('decode_head', command('builtins.open'), 'builtins.open'),
    ('decode_head.norm_cfg', command(), 'os.system'),
    ('decode_head.act_cfg', {'type': 'evil.Evil'}, 'evil'),
    ('decode_head.loss_decode.0', command(), 'os.system'),
    ('decode_head.loss_decode.0.class_weight', 'evil.pkl', 'class_weight'),
    ('decode_head.sampler', command(), 'samplers'),
    ('decode_head.init_cfg', {'type': 'Normal', 'override': {'type': 'os.system', 'name': 'conv_seg'}}, 'override'),
    ('neck', {'type': 'SegLoss'}, 'SegLoss'),
    ('pretrained', 'evil.pth', 'pretrained'),
    ('auxiliary_head', [{'type': 'runpy.run_path', 'path_name': 'evil.py'}], 'runpy'),
    ('data_preprocessor', command(), 'os.system'),
    ('data_preprocessor.batch_augments', [{'type': 'os.system'}], 'os.system'),
    ('train_cfg', {'augments': [{'type': 'os.system'}]}, 'augments'),
    ('test_cfg', {'mode': 'whole', 'tta': {'type': 'mmmim.get_model', 'source': 'x'}}, 'get_model'),
]


@pytest.mark.parametrize(('path', 'value', 'words'), DOWNSTREAM_HOLES)
def test_a_downstream_model_from_a_file_is_refused(trap, path, value, words):
    with pytest.raises(InputError, match=rf'x\.pth.*{words}'):
        read_downstream(save(put(segmentor(), path, value), trap / 'x.pth'))


@pytest.mark.parametrize('mean', [5, 'abc', [float('nan')] * 3])
def test_statistics_that_are_no_numbers_are_refused(trap, mean):
    model = MODELS.build(put(segmentor(), 'backbone.checkpoint', 'load_from'))
    with pytest.raises(InputError, match=r'x\.pth'):
        read_downstream(save(put(segmentor(), 'data_preprocessor.mean', mean), trap / 'x.pth', model.state_dict()))


def test_models_that_never_end_are_refused(trap):
    deep, around = dict(VIT), dict(VIT)
    node = deep
    for _ in range(50):
        node['a'] = {}
        node = node['a']
    around['a'] = around
    wide = {**VIT, 'a': [0]}
    for _ in range(30):
        wide = {**VIT, 'a': [wide] * 10}
    for backbone in (deep, around, wide):
        with pytest.raises(InputError, match=r'x\.pth holds no config of a model|nested without end'):
            check_stored_model({'backbone': backbone}, 'x.pth')
        with pytest.raises(InputError, match=r'x\.pth'):
            mmmim.get_model(save({'backbone': backbone}, trap / 'x.pth'))


@pytest.mark.parametrize(
    'model',
    [None, 'os.system', [], 3, {}, {'backbone': None}, {'backbone': VIT, 'branches': [1]},
     {'backbone': VIT, 'branches': {'a': 'b'}}, {'backbone': VIT, 'branches': {'a': {'neck': {}}}},
     {'backbone': VIT, 'data_preprocessor': 'x'}, {3: VIT}, {'backbone': {4: 5}}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize('reader', READERS)
def test_what_is_no_model_is_refused(trap, model, reader):
    with pytest.raises(InputError):
        READERS[reader](save(model, trap / 'x.pth'))


def test_weights_that_repeat_themselves_take_no_memory(trap):
    wide = {**VIT, 'embed_dim': 4 * 10**5, 'num_heads': 10**5}
    with torch.device('meta'):
        shapes = {key: value.shape for key, value in MODELS.build(wide).state_dict().items()}
    state = {f'backbone.{key}': torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    with pytest.raises(InputError, match='has values for a part of it only'):
        mmmim.get_model(save({'backbone': wide}, trap / 'x.pth', state))


def test_every_config_passes(monkeypatch):
    folder = resources() / 'configs'
    monkeypatch.setenv('MMMIM_CONFIGS', str(folder))
    files = [path for path in folder.rglob('*.py') if not {'_base_', 'ablations'} & set(path.parts)]
    models = [model for path in files if (model := Config.fromfile(path).get('model')) is not None]
    assert len(models) > 40
    for model in models:
        assert check_stored_model(model.to_dict(), 'x.pth') == model.to_dict()


def test_every_initialiser_but_the_one_that_loads_passes():
    for name, kind in WEIGHT_INITIALIZERS.parent.module_dict.items():
        model = {'backbone': {**VIT, 'init_cfg': [{'type': name}]}}
        if kind.__name__ == 'PretrainedInit':
            with pytest.raises(InputError, match=r'model\.backbone\.init_cfg\.0 would load another file'):
                check_stored_model(model, 'x.pth')
        else:
            check_stored_model(model, 'x.pth')


def test_a_trained_model_comes_back(tmp_path):
    torch.manual_seed(0)
    model = mae()
    state = MODELS.build(model).state_dict()
    path = save(model, tmp_path / 'x.pth', state)
    assert torch.equal(mmmim.get_model(path).backbone.patch_embed.weight, state['backbone.patch_embed.weight'])
    assert torch.equal(
        Reconstructor.from_checkpoint(path).backbone.patch_embed.weight, state['backbone.patch_embed.weight']
    )
    whole = MODELS.build(put(segmentor(), 'backbone.checkpoint', 'random')).state_dict()
    rebuilt, cfg = read_downstream(save(segmentor(), tmp_path / 'y.pth', whole))
    assert (rebuilt['backbone']['checkpoint'], rebuilt['backbone']['encoder'], cfg.channels) == ('load_from', VIT, 8)


def test_tokenizers_of_a_pre_training_may_name_their_file(tmp_path):
    """A model with a tokenizer gives features: nothing builds the tokenizer, so nobody reads what it names."""
    model = mae()
    state = MODELS.build(model).state_dict()
    tokenizer = {'type': 'mmmim.KMeansTokenizer', 'codebook': str(tmp_path / 'secret')}
    model['branches']['pixels']['target_generator'] = {'type': 'mmmim.TokenizerTarget', 'tokenizer': tokenizer}
    assert mmmim.get_model(save(model, tmp_path / 'x.pth', state)).patch_size == 4


class OwnBackbone(Encoder):
    patch_size, grid, embed_dim, depth = 4, (2, 2), 1, 1

    def __init__(self, rate=0.0):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.rates = [x.item() for x in torch.linspace(0, rate, 3)]  # which the meta device cannot do

    def forward(self, images, mask=None, layers=(), depth=None):
        raise NotImplementedError


def test_classes_of_a_project_that_was_imported_pass(tmp_path, monkeypatch):
    model = {'type': 'mmmim.NotImported', 'backbone': {'type': 'mmmim.OwnBackbone', 'rate': 0.5}}
    state = {'backbone.layer.weight': torch.ones(1, 1), 'backbone.layer.bias': torch.zeros(1)}
    path = save(model, tmp_path / 'x.pth', state)
    with pytest.raises(InputError, match=r"model\.backbone\.type='mmmim\.OwnBackbone'.*import the project first"):
        mmmim.get_model(path)
    monkeypatch.setitem(MODELS.module_dict, 'OwnBackbone', OwnBackbone)
    assert mmmim.get_model(path).backbone.rates == pytest.approx([0, 0.25, 0.5])
    monkeypatch.setitem(MODELS.module_dict, 'OwnBackbone', lambda rate: OwnBackbone())
    with pytest.raises(InputError, match='not registered as a class'):
        mmmim.get_model(path)


def test_a_project_in_the_current_folder_is_not_imported(trap):
    """A class that some other registry knows is not taken from a module of its name that lies around."""
    Path('FCNHead.py').write_text("open('hit', 'w').close()\n")
    with pytest.raises(InputError, match='FCNHead'):
        check_stored_model(put(mae(), 'backbone', {'type': 'FCNHead'}), 'x.pth')


def test_sizes_are_compared_before_memory_is_taken(monkeypatch):
    built = []
    monkeypatch.setattr(nn.Linear, 'reset_parameters', lambda self: built.append(self.weight.device.type))
    with pytest.raises(InputError, match='does not fit ViT'):
        build_stored(VIT, {}, 'x.pth')
    assert set(built) == {'meta'}


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('data_preprocessor', {'type': 'mmseg.SegDataPreProcessor'}, 'data_preprocessor is a SegDataPreProcessor'),
        ('backbone', {'type': 'mmpretrain.LeNet5'}, 'backbone is a LeNet5, which is no Encoder: .* It lacks embed_dim'),
        ('branches.pixels.neck', {'depth': 1}, 'model.branches.pixels is not'),
        ('type', None, 'model.type is a NoneType'),
    ],
)
def test_parts_that_features_cannot_come_from_are_refused(tmp_path, path, value, message):
    weights = MODELS.build(mae()).state_dict()
    if path == 'backbone':
        weights = {f'backbone.{key}': value for key, value in MODELS.build(value).state_dict().items()}
    with pytest.raises(InputError, match=message):
        mmmim.get_model(save(put(mae(), path, value), tmp_path / 'a.pth', weights))


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors')
def test_nested_tensors_are_refused(tmp_path):
    path = save(mae(), tmp_path / 'a.pth', {'backbone.x': torch.nested.nested_tensor([torch.ones(2)])})
    with pytest.raises(InputError, match='nested tensors'):
        mmmim.get_model(path)
