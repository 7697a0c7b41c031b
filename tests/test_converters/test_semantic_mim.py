import runpy
from argparse import Namespace

import numpy as np
import pytest
import torch

import mmmim
from mmmim.converters.semantic_mim import NECK, collect, convert_checkpoint, flavour, mmmim_names
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT, run_tool

DIM = 32
KINDS = ('beit', 'maskfeat')


def load(kind):
    with np.load(ROOT / f'tests/data/semanticmim_{kind}_tiny.npz') as file:
        return dict(file)


@pytest.fixture(scope='module', params=KINDS)
def recorded(request):
    return load(request.param)


def weights_of(recorded):
    return {key.removeprefix('sd/'): torch.tensor(a) for key, a in recorded.items() if key.startswith('sd/')}


@pytest.fixture
def weights(recorded):
    return weights_of(recorded)


@pytest.fixture(scope='module')
def beit():
    return weights_of(load('beit'))


@pytest.fixture(scope='module')
def maskfeat():
    return weights_of(load('maskfeat'))


def as_trained(weights):
    """As a training writes it, with the weights of the target generator."""
    state = {f'module.{key}': value for key, value in weights.items()}
    state |= {
        'module.target_generator.blocks.input.w': torch.ones(2),
        'module.target_generator.weight_x': torch.ones(3),
    }
    return {'state_dict': state, 'meta': {'epoch': 300}, 'optimizer': {'state': {}}}


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


def test_every_weight_arrives(weights):
    converted = convert_checkpoint(weights, 'file.pth', num_heads=4)
    state, config = converted['state_dict'], converted['mmmim']['model']
    if flavour(weights) == 'beit':
        tokenizer = config['branches']['semantic']['target_generator']['tokenizer']
        tokenizer.update(type='mmmim.KMeansTokenizer', untrained=True)
    model = MODELS.build(config)
    left = set(model.state_dict()) - set(state)
    assert all(key.startswith('branches.semantic.target_generator.') for key in left)
    model.load_state_dict(state, strict=not left)
    own = model.state_dict()
    for key, value in weights.items():
        assert torch.equal(collect(key, own), value), key
    assert sum(value.numel() for value in state.values()) == sum(value.numel() for value in weights.values())


def test_where_weights_arrive(beit, maskfeat):
    state = convert_checkpoint(beit, 'file.pth', num_heads=4)['state_dict']
    assert torch.equal(state['backbone.positions.extra'], beit['backbone.pos_embed'][0, :3])
    assert torch.equal(state['backbone.positions.weight'], beit['backbone.pos_embed'][0, 3:])
    assert torch.equal(state[f'{NECK}.norm.weight'], beit['backbone.ln1.weight'])
    assert torch.equal(state[f'{NECK}.mask_token'], beit['backbone.mask_token'][0])
    assert torch.equal(state['backbone.blocks.1.attn.q_proj.bias'], beit['backbone.layers.1.attn.q_bias'])
    assert torch.equal(state[f'{NECK}.blocks.0.scale2.weight'], beit['backbone.extra_layers.0.gamma_2'])
    assert 'backbone.blocks.0.attn.k_proj.bias' not in state
    state = convert_checkpoint(maskfeat, 'file.pth', num_heads=4)['state_dict']
    fused = maskfeat['backbone.extra_layers.1.attn.kv.bias']
    assert torch.equal(state[f'{NECK}.blocks.1.attn.k_proj.bias'], fused[:DIM])
    assert torch.equal(state[f'{NECK}.blocks.1.attn.v_proj.bias'], fused[DIM:])
    assert torch.equal(state[f'{NECK}.proj.bias'], maskfeat['neck.fc.bias'])
    assert mmmim_names('backbone.layers.0.attn.qkv.weight') is None
    assert collect('backbone.ln1.weight', {}) is None


def test_config_is_read_off_the_shapes(beit, maskfeat):
    config = convert_checkpoint(beit, 'file.pth', num_heads=4)['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['semantic']
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (32, 8, 4)
    assert (backbone['embed_dim'], backbone['depth'], backbone['num_cls_tokens']) == (32, 2, 3)
    assert (backbone['qkv_bias'], backbone['layer_scale'], backbone['drop_path_rate']) == ('qv', 0.1, (0.0, 0.1))
    assert branch['neck']['out_dim'] == branch['target_generator']['tokenizer']['num_tokens'] == 24
    config = convert_checkpoint(maskfeat, 'file.pth', num_heads=2)['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['semantic']
    assert (backbone['img_size'], backbone['num_heads'], backbone['num_cls_tokens']) == (224, 2, 8)
    assert (backbone['qkv_bias'], backbone['layer_scale'], backbone['drop_path_rate']) == (True, None, 0.0)
    assert branch['target_generator']['type'] == 'mmmim.HOGTarget'
    wide = {**beit, 'backbone.cls_token': torch.zeros(1, 3, 64)}
    with pytest.raises(InputError, match='extra_tokens'):
        convert_checkpoint(wide, 'file.pth', num_heads=4)


def test_from_file_to_features_by_the_tool(beit, tmp_path):
    recorded = load('beit')
    source, target = tmp_path / 'epoch_300.pth', tmp_path / 'mmmim.pth'
    torch.save(as_trained(beit), source)
    result = run_tool('model_converters/semantic_mim_to_mmmim.py', source, target, '--num-heads', 4)
    assert result.returncode == 0, result.stderr
    said = '2 blocks x 32 with 4 heads, patch 8, 32 px, 3 proxies; 2 blocks beside it, 24 outputs for mmmim.TokenizerT'
    assert said in result.stdout
    images, last = torch.tensor(recorded['images']), torch.tensor(recorded['eval/layer1'])
    features = mmmim.get_model(target)(images)
    close(features.patches[0], last[:, 3:])
    close(features.pooled, last[:, 3:].mean(1))
    maps = PretrainedBackbone(str(target), out_indices=(0,))(images)[0]
    close(maps.flatten(2).transpose(1, 2), recorded['eval/layer0'][:, 3:])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')


def test_files_with_python_objects_are_read_on_request_only(maskfeat, tmp_path, monkeypatch, capsys):
    def tool(*args):
        monkeypatch.setattr('sys.argv', ['semantic_mim_to_mmmim.py', *map(str, args)])
        runpy.run_path(str(ROOT / 'tools/model_converters/semantic_mim_to_mmmim.py'), run_name='__main__')

    source, target = tmp_path / 'checkpoint.pth', tmp_path / 'mmmim.pth'
    torch.save({**as_trained(maskfeat), 'args': Namespace(lr=1e-3)}, source)
    with pytest.raises(SystemExit):
        tool(source, target, '--num-heads', 4)
    assert 'trust_checkpoint' in capsys.readouterr().err
    assert not target.exists()
    tool(source, target, '--num-heads', 4, '--trust-checkpoint')
    assert '108 outputs for mmmim.HOGTarget' in capsys.readouterr().out
    assert mmmim.get_model(target).backbone.depth == 2


def refused(message, weights, num_heads=4):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', num_heads)


def without(weights, *keys):
    assert all(key in weights for key in keys)
    return {key: value for key, value in weights.items() if key not in keys}


def test_what_does_not_fit_is_refused_by_name(beit, maskfeat):
    for name in ('backbone.layers.0.attn.qkv.weight', 'backbone.norm.weight', 'fc.weight', 'head.cls_head'):
        refused(f'file.pth: 1 keys are not in the layout of SemanticMIM .* e.g. {name}', beit | {name: torch.ones(1)})
    for key, ours in (
        ('backbone.layers.1.ffn.layers.0.0.bias', r'blocks\.1\.mlp\.fc1\.bias'),
        ('backbone.layers.0.gamma_1', r'blocks\.0\.scale1\.weight'),
        ('backbone.extra_layers.0.attn.v_bias', r'blocks\.0\.attn\.v_proj\.bias'),
        ('backbone.ln1.bias', r'norm\.bias'),
        ('head.cls_head.bias', r'proj\.bias'),
    ):
        refused(rf'1 missing \({ours}\)', without(beit, key))
    for key, ours in (
        ('backbone.cls_token', r'backbone\.extra_tokens'),
        ('backbone.pos_embed', r'backbone\.positions\.extra, backbone\.positions\.weight'),
        ('backbone.mask_token', rf'{NECK}\.mask_token'),
        ('neck.fc.weight', rf'{NECK}\.proj\.weight'),
    ):
        refused(f'has no {ours}', without(maskfeat, key))
    refused(r'2 missing \(blocks\.0\.attn\.k_proj\.bias', without(maskfeat, 'backbone.layers.0.attn.kv.bias'))
    refused('has both', beit | {'backbone.layers.2.attn.q.weight': torch.zeros(32, 32)})
    refused('has neither', without(beit, *(key for key in beit if key.endswith('q_proj.weight'))))
    refused(r'neck\.proj\.bias twice', beit | {'neck.fc.bias': torch.zeros(24)})
    shallow = {key: value for key, value in beit.items() if not key.startswith('backbone.extra_layers.0')}
    refused(r'\(branches\.semantic\.neck\.\*\) does not fit .* missing \(blocks\.0', shallow)


def test_shapes_that_do_not_fit_are_refused_by_name(beit):
    def wrong(message, key, *shape):
        assert key in beit
        refused(message, beit | {key: torch.zeros(shape)})

    wrong(r'attn\.proj\.weight: \[32, 31\]', 'backbone.layers.0.attn.proj.weight', 32, 31)
    wrong(r'k_proj\.weight: \[33, 32\]', 'backbone.extra_layers.0.attn.kv_proj.weight', 66, 32)
    wrong(r'cls_token has the shape \[3, 32\], not \[1, tokens, D\]', 'backbone.cls_token', 3, 32)
    wrong(r'mask_token has the shape \[2, 1, 32\]', 'backbone.mask_token', 2, 1, 32)
    wrong('15 patches, which are no square', 'backbone.pos_embed', 1, 18, 32)
    wrong(r'proj\.bias: \[25\]', 'head.cls_head.bias', 25)
    refused('5 attention heads do not divide the width 32: give --num-heads', beit, 5)
    refused('the width 32 does not tell how many attention heads', beit, None)
    refused('no flat table of tensors', {'epoch': 3})
