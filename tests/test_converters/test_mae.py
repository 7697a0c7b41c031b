import runpy
from argparse import Namespace

import pytest
import torch

import mmmim
from mmmim.converters.mae import convert_checkpoint
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT, run_tool

DIM, DECODER_DIM, PATCH, GRID, DEPTH, DECODER_DEPTH = 64, 32, 4, 3, 2, 1
# From the names of the authors to those of mmpretrain.
INSIDE = {'norm1': 'ln1', 'norm2': 'ln2', 'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}
OUTSIDE = {
    'patch_embed.proj': 'backbone.patch_embed.projection',
    'cls_token': 'backbone.cls_token',
    'pos_embed': 'backbone.pos_embed',
    'norm': 'backbone.ln1',
    'decoder_norm': 'neck.ln1',
}


def authors(decoder=True, seed=0):
    """Random weights in the layout of the authors."""
    rng = torch.Generator().manual_seed(seed)

    def linear(name, outputs, *inputs):
        return {f'{name}.weight': torch.randn(outputs, *inputs, generator=rng)} | norm(name, outputs, 'bias')

    def norm(name, dim, *kinds):
        return {f'{name}.{kind}': torch.randn(dim, generator=rng) for kind in kinds or ('weight', 'bias')}

    def block(name, dim):
        return {
            **norm(f'{name}.norm1', dim),
            **linear(f'{name}.attn.qkv', 3 * dim, dim),
            **linear(f'{name}.attn.proj', dim, dim),
            **norm(f'{name}.norm2', dim),
            **linear(f'{name}.mlp.fc1', 2 * dim, dim),
            **linear(f'{name}.mlp.fc2', dim, 2 * dim),
        }

    weights = {
        'cls_token': torch.randn(1, 1, DIM, generator=rng),
        'pos_embed': torch.randn(1, 1 + GRID**2, DIM, generator=rng),
        **linear('patch_embed.proj', DIM, 3, PATCH, PATCH),
        **norm('norm', DIM),
    }
    for i in range(DEPTH):
        weights |= block(f'blocks.{i}', DIM)
    if decoder:
        weights |= {
            'mask_token': torch.randn(1, 1, DECODER_DIM, generator=rng),
            'decoder_pos_embed': torch.randn(1, 1 + GRID**2, DECODER_DIM, generator=rng),
            **linear('decoder_embed', DECODER_DIM, DIM),
            **norm('decoder_norm', DECODER_DIM),
            **linear('decoder_pred', 3 * PATCH**2, DECODER_DIM),
        }
        weights['decoder_pos_embed'][:, 0] = 0
        for i in range(DECODER_DEPTH):
            weights |= block(f'decoder_blocks.{i}', DECODER_DIM)
    return weights


def mmpretrain(weights):
    """The same weights in the layout of mmpretrain."""
    renamed = {}
    for key, value in weights.items():
        for one, other in INSIDE.items():
            key = key.replace(f'.{one}.', f'.{other}.')
        for one, other in OUTSIDE.items():
            if key == one or key.startswith(f'{one}.'):
                key = other + key.removeprefix(one)
                break
        else:
            key = f'backbone.layers{key.removeprefix("blocks")}' if key.startswith('blocks.') else f'neck.{key}'
        renamed[key] = value
    return renamed


@pytest.mark.parametrize('layout', ['authors', 'mmpretrain'])
@pytest.mark.parametrize('decoder', [True, False])
def test_every_weight_arrives(layout, decoder):
    weights = authors(decoder)
    file = {'model': weights} if layout == 'authors' else {'state_dict': mmpretrain(weights), 'meta': {}}
    converted = convert_checkpoint(file, 'file.pth')
    assert converted['mmmim']['weights'] == 'student'
    model = MODELS.build(converted['mmmim']['model'])
    state = converted['state_dict']
    if decoder:
        model.load_state_dict(state)
    else:
        model.backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()})
    block = state['backbone.blocks.1.attn.k_proj.weight']
    torch.testing.assert_close(block, weights['blocks.1.attn.qkv.weight'][DIM : 2 * DIM], rtol=0, atol=0)
    assert torch.equal(state['backbone.patch_embed.weight'], weights['patch_embed.proj.weight'])
    assert torch.equal(state['backbone.positions.weight'], weights['pos_embed'][0, 1:])
    assert torch.equal(state['backbone.extra_tokens'], weights['cls_token'] + weights['pos_embed'][:, :1])
    if decoder:
        root = 'branches.pixels.neck'
        assert torch.equal(state[f'{root}.positions.weight'], weights['decoder_pos_embed'][0, 1:])
        assert torch.equal(state[f'{root}.mask_token'], weights['mask_token'][0])
        value = state[f'{root}.blocks.0.attn.v_proj.bias']
        assert torch.equal(value, weights['decoder_blocks.0.attn.qkv.bias'][2 * DECODER_DIM :])
        assert torch.equal(state[f'{root}.blocks.0.mlp.fc2.bias'], weights['decoder_blocks.0.mlp.fc2.bias'])
        assert torch.equal(state[f'{root}.norm.weight'], weights['decoder_norm.weight'])
        assert torch.equal(state[f'{root}.proj.bias'], weights['decoder_pred.bias'])
    assert set(state) == set(convert_checkpoint(weights, 'file.pth')['state_dict'])


def test_both_layouts_give_the_same():
    one, other = (convert_checkpoint(weights, 'file.pth') for weights in (authors(), mmpretrain(authors())))
    assert one['mmmim'] == other['mmmim']
    assert one['state_dict'].keys() == other['state_dict'].keys()
    assert all(torch.equal(value, other['state_dict'][key]) for key, value in one['state_dict'].items())


def test_config_is_read_off_the_shapes():
    converted = convert_checkpoint(authors(), 'file.pth', num_heads=8, decoder_num_heads=4, normalize=False)
    config = converted['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['pixels']
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (12, 4, 8)
    assert (backbone['embed_dim'], backbone['depth'], backbone['mlp_ratio']) == (64, 2, 2)
    neck = branch['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['out_dim']) == (32, 1, 4, 48)
    assert branch['target_generator'] == {
        'type': 'mmmim.PixelTarget',
        'patch_size': 4,
        'in_channels': 3,
        'normalize': False,
    }
    plain = convert_checkpoint(authors(), 'file.pth')['mmmim']['model']
    assert plain['backbone']['num_heads'] == 1
    assert plain['branches']['pixels']['neck']['num_heads'] == 16
    assert plain['branches']['pixels']['target_generator']['normalize']
    assert 'data_preprocessor' not in plain


@pytest.mark.parametrize(('dim', 'heads'), [(192, 3), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_the_widths_of_the_paper(dim, heads):
    from mmmim.converters.mae import convert_weights, find_layout, model_config

    weights = {
        'cls_token': torch.empty(1, 1, dim, device='meta'),
        'pos_embed': torch.empty(1, 1 + 14**2, dim, device='meta'),
        'patch_embed.proj.weight': torch.empty(dim, 3, 16, 16, device='meta'),
    }
    config = model_config(convert_weights(weights, find_layout(weights, 'file.pth')))
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)


def test_normalisation_of_the_images_is_kept_where_the_file_has_it():
    statistics = {
        f'data_preprocessor.{key}': torch.tensor(values).view(3, 1, 1)
        for key, values in (('mean', [1.0, 2.0, 3.0]), ('std', [4.0, 5.0, 6.0]))
    }
    config = convert_checkpoint({'state_dict': mmpretrain(authors()) | statistics}, 'file.pth')['mmmim']['model']
    preprocessor = MODELS.build(config['data_preprocessor'])
    assert preprocessor.mean.flatten().tolist() == [1.0, 2.0, 3.0]
    assert preprocessor.std.flatten().tolist() == [4.0, 5.0, 6.0]


def test_from_file_to_features_by_the_tool(tmp_path):
    source, target = tmp_path / 'mae.pth', tmp_path / 'mmmim.pth'
    torch.save({'model': authors()}, source)
    options = ['--num-heads', 4, '--decoder-num-heads', 2, '--raw-pixels']
    result = run_tool('model_converters/mae_to_mmmim.py', source, target, *options)
    assert result.returncode == 0, result.stderr
    assert '2 blocks x 64 with 4 heads, patch 4, 12 px; decoder of 1 blocks x 32 with 2 heads, raw' in result.stdout
    images = torch.randn(2, 3, 12, 16)
    features = mmmim.get_model(target, weights='student')(images)
    assert features.cls.shape == (2, DIM)
    torch.testing.assert_close(PretrainedBackbone(str(target))(images)[0], features.maps()[0])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')


def tool(monkeypatch, *args):
    """The tool, in this process."""
    monkeypatch.setattr('sys.argv', ['mae_to_mmmim.py', *map(str, args)])
    runpy.run_path(str(ROOT / 'tools/model_converters/mae_to_mmmim.py'), run_name='__main__')


def test_an_encoder_without_decoder_gives_features(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'mae.pth', tmp_path / 'mmmim.pth'
    features = []
    for decoder in (True, False):
        torch.save({'model': authors(decoder)}, source)
        tool(monkeypatch, source, target)
        assert ('; no decoder: for features only' in capsys.readouterr().out) != decoder
        features.append(mmmim.get_model(target, weights='student')(torch.ones(2, 3, 12, 12)))
    assert torch.equal(features[0].cls, features[1].cls)
    assert torch.equal(features[0].pooled, features[1].pooled)


def test_files_with_python_objects_are_read_on_request_only(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'checkpoint-799.pth', tmp_path / 'mmmim.pth'
    torch.save({'model': authors(), 'epoch': 799, 'args': Namespace(lr=1e-3)}, source)
    with pytest.raises(SystemExit):
        tool(monkeypatch, source, target)
    assert 'trust_checkpoint' in capsys.readouterr().err
    assert not target.exists()
    tool(monkeypatch, source, target, '--trust-checkpoint')
    assert mmmim.get_model(target).backbone.depth == DEPTH


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', **options)


def without(key):
    weights = authors()
    del weights[key]
    return weights


def test_what_does_not_fit_is_refused_by_name():
    for weights in (
        authors() | {'blocks.0.ls1.gamma': torch.ones(DIM)},
        authors() | {'decoder_head.weight': torch.ones(1)},
    ):
        refused(f'file.pth: 1 keys are not in the layout of the MAE authors, e.g. {list(weights)[-1]}', weights)
    refused(
        'layout of mmpretrain, e.g. blocks.0.norm1.weight',
        mmpretrain(authors()) | {'blocks.0.norm1.weight': torch.ones(1)},
    )
    refused(r'unexpected \(extra_tokens\.weight\)', authors() | {'cls_token.weight': torch.ones(1)})
    refused(r'1 missing \(blocks\.1\.mlp\.fc1\.bias\)', without('blocks.1.mlp.fc1.bias'))
    refused(r'missing \(blocks\.0\.attn\.q_proj\.bias', without('decoder_blocks.0.attn.qkv.bias'))
    refused('has no backbone.extra_tokens', without('cls_token'))
    refused('has no backbone.positions.weight', without('pos_embed'))
    refused('has no branches.pixels.neck.embed.weight', without('decoder_embed.weight'))
    refused(r'attn\.proj\.weight: \[64, 63\]', authors() | {'blocks.0.attn.proj.weight': torch.ones(64, 63)})
    refused(r'q_proj\.weight: \[50, 64\]', authors() | {'blocks.0.attn.qkv.weight': torch.ones(150, 64)})
    refused(r'proj\.weight: \[9, 32\]', authors() | {'decoder_pred.weight': torch.ones(9, 32)})
    refused(r'shape \[10, 64\], not \[1, 1 \+ N, D\]', authors() | {'pos_embed': torch.ones(10, 64)})
    refused('8 patches, which are no square', authors() | {'pos_embed': torch.ones(1, 9, 64)})


def test_a_position_of_cls_in_the_decoder_is_refused():
    weights = authors()
    weights['decoder_pos_embed'][0, 0, 3] = 0.1
    refused('positions of the decoder, that of CLS, is not zero', weights)


def test_heads_that_do_not_fit():
    refused('7 attention heads do not divide the width 64: give --num-heads', authors(), num_heads=7)
    refused('5 attention heads do not divide the width 32: give --decoder-num-heads', authors(), decoder_num_heads=5)
    refused('0 attention heads', authors(), num_heads=0)
    narrow = authors() | {'patch_embed.proj.weight': torch.ones(48, 3, PATCH, PATCH)}
    refused('the width 48 does not tell how many attention heads: give --num-heads', narrow)


def test_other_files_are_refused_with_an_explanation():
    classifier = authors(decoder=False) | {'head.weight': torch.ones(10, DIM), 'fc_norm.weight': torch.ones(DIM)}
    refused(r'is a classifier \(head\.weight, fc_norm\.weight\)', {'model': classifier})
    refused('is a classifier', {'state_dict': mmpretrain(authors(False)) | {'head.fc.weight': torch.ones(10, DIM)}})
    for weights in ({'fc.weight': torch.ones(1)}, {'state_dict': {'backbone.patch_embed.weight': torch.ones(1)}}):
        refused('no known layout of MAE: neither that of the authors .* nor that of mmpretrain', weights)
    refused('no flat table of tensors', {'epoch': 3})
    refused('no flat table of tensors', {'model': {}})


def test_files_of_hugging_face_are_called_by_their_name():
    weights = {'vit.embeddings.cls_token': torch.zeros(1), 'decoder.mask_token': torch.zeros(1)}
    with pytest.raises(InputError, match=r'no known layout of MAE.*transformers of Hugging Face.*--encoder timm:NAME'):
        convert_checkpoint(weights, 'file.pth')
