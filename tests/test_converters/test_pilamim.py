import pytest
import torch

import mmmim
from mmmim.converters.pilamim import LATENT_NECK, PIXEL_NECK, convert_checkpoint, mmmim_names
from mmmim.features import PretrainedBackbone
from mmmim.utils import InputError
from tests import reference_pilamim as reference
from tests.test_converters import samples

HEADS = dict(num_heads=4, decoder_num_heads=4)


@pytest.fixture
def recorded():
    return samples.recorded('pilamim')


@pytest.fixture
def weights():
    return samples.pilamim()


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- what arrives


def test_where_weights_arrive(weights):
    state = convert_checkpoint(weights, 'file.pt', **HEADS)['state_dict']
    fused = weights['target_decoder.transformer.1.attn.qkv.weight']
    for i, name in enumerate('qkv'):
        assert torch.equal(state[f'{LATENT_NECK}.blocks.1.attn.{name}_proj.weight'], fused[i * 40 : (i + 1) * 40])
    table = weights['decoder.pos_embedding']
    assert torch.equal(state[f'{PIXEL_NECK}.positions.extra'], table[0])
    assert torch.equal(state[f'{PIXEL_NECK}.positions.weight'], table[1:, 0])
    assert torch.equal(state['teacher.backbone.positions.weight'], weights['target_encoder.pos_embedding'][:, 0])
    assert torch.equal(state[f'{PIXEL_NECK}.embed.bias'], weights['decoder_embed.bias'])
    assert torch.equal(state[f'{LATENT_NECK}.embed.weight'], weights['decoder_latent_embed.weight'])
    head, bias = (weights[f'decoder.head.{kind}'] for kind in ('weight', 'bias'))
    for row, column, colour in ((0, 0, 0), (0, 1, 2), (3, 7, 1), (7, 0, 2)):
        place, old = (row * 8 + column) * 3 + colour, (colour * 8 + row) * 8 + column
        assert torch.equal(state[f'{PIXEL_NECK}.proj.weight'][place], head[old])
        assert torch.equal(state[f'{PIXEL_NECK}.proj.bias'][place], bias[old])
    assert torch.equal(state[f'{LATENT_NECK}.proj.bias'], weights['target_decoder.head_latent.bias'])


def test_config_is_read_off_the_shapes(weights):
    config = convert_checkpoint(weights, 'file.pt', **HEADS)['mmmim']['model']
    backbone, pixels, latent = config['backbone'], *(config['branches'][name] for name in ('pixels', 'latent'))
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (32, 8, 4)
    assert (backbone['embed_dim'], backbone['depth'], backbone['mlp_ratio']) == (48, 2, 4)
    for branch, width, out_dim in ((pixels, 32, 192), (latent, 40, 48)):
        neck = branch['neck']
        sizes = (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['out_dim'], neck['grid'])
        assert sizes == (width, 2, 4, out_dim, (4, 4))
    assert pixels['target_generator']['patch_size'] == 8


def test_heads_of_the_size_of_the_paper():
    """A whole ViT-B/16 without memory: 12 heads, and the number of weights of the paper's sizes."""
    sizes = dict(reference.TOY, img=224, patch=16, dim=768, depth=12, pdim=384, ldim=384, ddepth=6)
    with torch.device('meta'):
        weights = reference.new_weights(sizes, None)
    state = {name: value.float() for name, value in weights.items()}
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(194.15, abs=0.01)
    config = convert_checkpoint(state, 'file.pt')['mmmim']['model']
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (12, 224)
    assert {branch['neck']['num_heads'] for branch in config['branches'].values()} == {12}


# ------------------------------------------------------------------------------------------------- files and features


def test_features_are_those_of_both_encoders(weights, recorded, tmp_path):
    target = tmp_path / 'mmmim.pth'
    torch.save(convert_checkpoint(weights, 'file.pt', **HEADS), target)
    images = torch.tensor(recorded['images'])
    order = torch.arange(16).expand(3, -1)
    student, teacher = (mmmim.get_model(target, weights=which) for which in ('student', 'ema'))
    target_tokens = reference.targets_of(weights, reference.TOY, images, order)
    for model, expected in ((student, torch.tensor(recorded['probe/features'])), (teacher, target_tokens)):
        features = model(images)
        close(features.cls, expected[:, 0])
        close(features.patches[0], expected[:, 1:])
        close(features.pooled, expected[:, 1:].mean(1))
    assert (teacher(images).cls - student(images).cls).abs().max() > 0.1
    assert torch.equal(mmmim.get_model(target)(images).cls, teacher(images).cls)
    maps = PretrainedBackbone(str(target), weights='student')(images)[0]
    close(maps.flatten(2).transpose(1, 2), recorded['probe/features'][:, 1:])


# ------------------------------------------------------------------------------------------------------ what does not


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pt', **(HEADS | options))


@pytest.mark.parametrize('key', [*reference.FULL_GRADIENTS, 'target_encoder.layer_norm.bias'])
def test_missing_keys_are_refused(weights, key):
    refused(mmmim_names(key)[0].split('.')[-1], {k: v for k, v in weights.items() if k != key})


def test_missing_parts_are_refused(weights):
    for side in ('encoder.', 'target_encoder.', 'decoder.', 'target_decoder.', 'decoder_embed.', 'decoder_latent_'):
        refused('missing|has no', {key: value for key, value in weights.items() if not key.startswith(side)})


def test_shapes_that_do_not_fit_are_refused_by_name(weights):
    def wrong(message, key, *shape):
        refused(message, weights | {key: torch.zeros(shape)})

    wrong(r'attn\.proj\.weight: \[48, 47\]', 'encoder.transformer.0.attn.proj.weight', 48, 47)
    wrong(r'q_proj\.weight: \[50, 48\]', 'encoder.transformer.0.attn.qkv.weight', 150, 48)
    wrong('decoder.head does not predict the pixels of one patch', 'decoder.head.weight', 9, 32)
    wrong(r'decoder\.head\.weight has the shape \[8, 32\], not \[3', 'decoder.head.weight', 8, 32)
    wrong(r'encoder\.pos_embedding has the shape \[16, 48\], not \[N, 1, D\]', 'encoder.pos_embedding', 16, 48)
    wrong(r'positions\.weight: \[24, 32\]', 'decoder.pos_embedding', 25, 1, 32)
    wrong('12 patches, which are no square', 'encoder.pos_embedding', 12, 1, 48)
    wrong(r'decoder\.mask_token has the shape \[32\], not \[1, 1, D\]', 'decoder.mask_token', 32)
    wrong(r'extra_tokens: \[1, 2, 48\]', 'encoder.cls_token', 1, 2, 48)
    wrong(r'the patch embedding has the shape \[48, 192\]', 'encoder.patchify.weight', 48, 192)
