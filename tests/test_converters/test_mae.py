import pytest
import torch

import mmmim
from mmmim.cli.convert import main
from mmmim.converters.mae import convert_checkpoint, find_layout, model_config
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.test_converters.samples import MAE_DECODER_DIM as DECODER_DIM
from tests.test_converters.samples import MAE_DIM as DIM
from tests.test_converters.samples import MAE_PATCH as PATCH
from tests.test_converters.samples import mae, mae_of_mmpretrain


def test_where_weights_arrive():
    weights = mae()
    state = convert_checkpoint(weights, 'file.pth')['state_dict']
    block = state['backbone.blocks.1.attn.k_proj.weight']
    torch.testing.assert_close(block, weights['blocks.1.attn.qkv.weight'][DIM : 2 * DIM], rtol=0, atol=0)
    assert torch.equal(state['backbone.patch_embed.weight'], weights['patch_embed.proj.weight'])
    assert torch.equal(state['backbone.positions.weight'], weights['pos_embed'][0, 1:])
    assert torch.equal(state['backbone.extra_tokens'], weights['cls_token'] + weights['pos_embed'][:, :1])
    root = 'branches.pixels.neck'
    assert torch.equal(state[f'{root}.positions.weight'], weights['decoder_pos_embed'][0, 1:])
    assert torch.equal(state[f'{root}.mask_token'], weights['mask_token'][0])
    value = state[f'{root}.blocks.0.attn.v_proj.bias']
    assert torch.equal(value, weights['decoder_blocks.0.attn.qkv.bias'][2 * DECODER_DIM :])
    assert torch.equal(state[f'{root}.blocks.0.mlp.fc2.bias'], weights['decoder_blocks.0.mlp.fc2.bias'])
    assert torch.equal(state[f'{root}.norm.weight'], weights['decoder_norm.weight'])
    assert torch.equal(state[f'{root}.proj.bias'], weights['decoder_pred.bias'])


def test_config_is_read_off_the_shapes():
    converted = convert_checkpoint(mae(), 'file.pth', num_heads=8, decoder_num_heads=4, normalize=False)
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
    plain = convert_checkpoint(mae(), 'file.pth')['mmmim']['model']
    assert plain['backbone']['num_heads'] == 1
    assert plain['branches']['pixels']['neck']['num_heads'] == 16
    assert plain['branches']['pixels']['target_generator']['normalize']
    assert 'data_preprocessor' not in plain


@pytest.mark.parametrize(('dim', 'heads'), [(192, 3), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_the_widths_of_the_paper(dim, heads):
    weights = {
        'cls_token': torch.empty(1, 1, dim, device='meta'),
        'pos_embed': torch.empty(1, 1 + 14**2, dim, device='meta'),
        'patch_embed.proj.weight': torch.empty(dim, 3, 16, 16, device='meta'),
    }
    config = model_config(find_layout(weights, 'file.pth').convert(weights))
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)


def test_normalisation_of_the_images_is_kept_where_the_file_has_it():
    statistics = {
        f'data_preprocessor.{key}': torch.tensor(values).view(3, 1, 1)
        for key, values in (('mean', [1.0, 2.0, 3.0]), ('std', [4.0, 5.0, 6.0]))
    }
    config = convert_checkpoint({'state_dict': mae_of_mmpretrain() | statistics}, 'file.pth')['mmmim']['model']
    preprocessor = MODELS.build(config['data_preprocessor'])
    assert preprocessor.mean.flatten().tolist() == [1.0, 2.0, 3.0]
    assert preprocessor.std.flatten().tolist() == [4.0, 5.0, 6.0]


def test_from_file_to_features_by_the_tool(tmp_path, capsys):
    source, target = tmp_path / 'mae.pth', tmp_path / 'mmmim.pth'
    torch.save({'model': mae()}, source)
    main([str(source), str(target), '--num-heads', '4', '--decoder-num-heads', '2', '--raw-pixels'])
    assert 'with 2 heads, raw pixels' in capsys.readouterr().out
    images = torch.randn(2, 3, 12, 16)
    features = mmmim.get_model(target, weights='student')(images)
    assert features.cls.shape == (2, DIM)
    torch.testing.assert_close(PretrainedBackbone(str(target))(images)[0], features.maps()[0])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')
    torch.save({'model': mae(False)}, source)
    main([str(source), str(target), '--num-heads', '4'])
    alone = mmmim.get_model(target, weights='student')(images)
    assert torch.equal(features.cls, alone.cls)
    assert torch.equal(features.pooled, alone.pooled)


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', **options)


def without(key):
    weights = mae()
    del weights[key]
    return weights


def test_what_does_not_fit_is_refused_by_name():
    refused(r'unexpected \(extra_tokens\.weight\)', mae() | {'cls_token.weight': torch.ones(1)})
    refused(r'1 missing \(blocks\.1\.mlp\.fc1\.bias\)', without('blocks.1.mlp.fc1.bias'))
    refused(r'missing \(blocks\.0\.attn\.q_proj\.bias', without('decoder_blocks.0.attn.qkv.bias'))
    refused('has no backbone.extra_tokens', without('cls_token'))
    refused('has no backbone.positions.weight', without('pos_embed'))
    refused('has no branches.pixels.neck.embed.weight', without('decoder_embed.weight'))
    refused(r'attn\.proj\.weight: \[64, 63\]', mae() | {'blocks.0.attn.proj.weight': torch.ones(64, 63)})
    refused(r'q_proj\.weight: \[50, 64\]', mae() | {'blocks.0.attn.qkv.weight': torch.ones(150, 64)})
    refused(r'proj\.weight: \[9, 32\]', mae() | {'decoder_pred.weight': torch.ones(9, 32)})
    refused(r'shape \[10, 64\], not \[1, 1 \+ N, D\]', mae() | {'pos_embed': torch.ones(10, 64)})
    refused('8 patches, which are no square', mae() | {'pos_embed': torch.ones(1, 9, 64)})


def test_a_position_of_cls_in_the_decoder_is_refused():
    weights = mae()
    weights['decoder_pos_embed'][0, 0, 3] = 0.1
    refused('first row of decoder_pos_embed, that of CLS, is not zero', weights)


def test_a_width_that_does_not_tell_how_many_heads():
    narrow = mae() | {'patch_embed.proj.weight': torch.ones(48, 3, PATCH, PATCH)}
    refused('the width 48 does not tell how many attention heads: give --num-heads', narrow)


def test_other_files_are_refused_with_an_explanation():
    classifier = mae(False) | {'head.weight': torch.ones(10, DIM), 'fc_norm.weight': torch.ones(DIM)}
    refused(r'is a classifier \(head\.weight, fc_norm\.weight\)', {'model': classifier})
    refused('is a classifier', {'state_dict': mae_of_mmpretrain(False) | {'head.fc.weight': torch.ones(10, DIM)}})
    for weights in ({'fc.weight': torch.ones(1)}, {'state_dict': {'backbone.patch_embed.weight': torch.ones(1)}}):
        refused('no known layout of MAE: neither that of the authors .* nor that of mmpretrain', weights)


def test_files_of_hugging_face_are_called_by_their_name():
    weights = {'vit.embeddings.cls_token': torch.zeros(1), 'decoder.mask_token': torch.zeros(1)}
    with pytest.raises(InputError, match=r'no known layout of MAE.*transformers of Hugging Face.*--encoder timm:NAME'):
        convert_checkpoint(weights, 'file.pth')
