import pytest
import torch

import mmmim
from mmmim.converters.semantic_mim import NECK, convert_checkpoint
from mmmim.features import PretrainedBackbone
from mmmim.utils import InputError
from tests.test_converters.samples import recorded, semantic_mim

DIM = 32


@pytest.fixture
def beit():
    return semantic_mim('beit')


@pytest.fixture
def maskfeat():
    return semantic_mim('maskfeat')


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


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


def test_features_are_the_recorded_ones(beit, tmp_path):
    arrays, target = recorded('semanticmim_beit'), tmp_path / 'mmmim.pth'
    torch.save(convert_checkpoint(beit, 'file.pth', 4), target)
    images, last = torch.tensor(arrays['images']), torch.tensor(arrays['eval/layer1'])
    features = mmmim.get_model(target)(images)
    close(features.patches[0], last[:, 3:])
    close(features.pooled, last[:, 3:].mean(1))
    maps = PretrainedBackbone(str(target), out_indices=(0,))(images)[0]
    close(maps.flatten(2).transpose(1, 2), arrays['eval/layer0'][:, 3:])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')


def refused(message, weights, num_heads=4):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', num_heads)


def without(weights, *keys):
    assert all(key in weights for key in keys)
    return {key: value for key, value in weights.items() if key not in keys}


def test_what_does_not_fit_is_refused_by_name(beit, maskfeat):
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
        ('backbone.pos_embed', r'backbone\.positions\.weight, backbone\.positions\.extra'),
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
