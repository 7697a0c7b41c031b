import pytest
import torch

import mmmim
from mmmim.converters.latent_mim import NECK, adapt, convert_checkpoint, model_config, restore
from mmmim.features import PretrainedBackbone
from mmmim.utils import InputError
from tests import reference_latent_mim as reference
from tests.test_converters import samples

DIM, DECODER_DIM = 48, 32
HEADS = dict(num_heads=4, decoder_num_heads=4)


@pytest.fixture
def recorded():
    return samples.recorded('latentmim')


@pytest.fixture
def weights():
    return samples.latent_mim()


def target_features(weights, images):
    """Normed tokens of the target encoder for whole images, by the reference."""
    config = {**reference.TOY, 'gap': 0}
    none = torch.zeros(len(images), 4, 4, dtype=torch.long)
    patches = reference.cut(images, 8, 0, none, none)
    index = torch.arange(16).expand(len(images), -1)
    return reference.encode(weights, 'target_encoder', config, patches, index)[1]


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- what arrives


def test_where_weights_arrive(weights):
    state = convert_checkpoint(weights, 'file.pth', **HEADS)['state_dict']
    fused = weights['encoder.blocks.1.attn.qkv.weight']
    for i, name in enumerate('qkv'):
        assert torch.equal(state[f'backbone.blocks.1.attn.{name}_proj.weight'], fused[i * DIM : (i + 1) * DIM])
    fused = weights['decoder.blocks.0.cross_attn.kv_proj.bias']
    assert torch.equal(state[f'{NECK}.blocks.0.cross_attn.k_proj.bias'], fused[:DECODER_DIM])
    assert torch.equal(state[f'{NECK}.blocks.0.cross_attn.v_proj.bias'], fused[DECODER_DIM:])
    assert torch.equal(state[f'{NECK}.blocks.0.norm2_query.weight'], weights['decoder.blocks.0.norm2q.weight'])
    assert torch.equal(state[f'{NECK}.blocks.1.norm2_context.bias'], weights['decoder.blocks.1.norm2kv.bias'])
    assert torch.equal(state[f'{NECK}.proj.weight'], weights['decoder.head.weight'])
    flat = weights['target_encoder.embed.proj.weight']
    kernel = state['teacher.backbone.patch_embed.weight']
    assert kernel.shape == (DIM, 3, 8, 8)
    for row, column, colour in ((0, 0, 0), (0, 1, 2), (3, 7, 1), (7, 0, 2)):
        assert torch.equal(kernel[:, colour, row, column], flat[:, (row * 8 + column) * 3 + colour])
    assert torch.equal(state['backbone.projector.norms.2.bias'], weights['encoder.head.norm2.bias'])


def test_restore_is_the_inverse_of_adapt(weights):
    for key, value in weights.items():
        if not key.endswith('pos_embeds'):
            assert torch.equal(restore(key, adapt(key, value, weights)), value)


def test_config_is_read_off_the_shapes(weights):
    config = convert_checkpoint(weights, 'file.pth', **HEADS)['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['latent']
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (32, 8, 4)
    assert (backbone['embed_dim'], backbone['depth'], backbone['mlp_ratio']) == (48, 2, 4)
    assert backbone['projector_dims'] == [64, 64]
    neck = branch['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['grid']) == (32, 2, 4, (4, 4))
    assert config['teacher'] == ['backbone']
    plain = convert_checkpoint(samples.latent_mim('encoder'), 'file.pth', num_heads=3)['mmmim']['model']
    neck = plain['branches']['latent']['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['context_dim']) == (512, 3, 16, 48)


@pytest.mark.parametrize(('dim', 'heads'), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_the_widths_of_the_paper(dim, heads):
    weights = {
        'backbone.extra_tokens': torch.empty(1, 1, dim, device='meta'),
        'backbone.positions.weight': torch.empty(14**2, dim, device='meta'),
        'backbone.patch_embed.weight': torch.empty(dim, 3, 16, 16, device='meta'),
    }
    config = model_config(weights)
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)


# ------------------------------------------------------------------------------------------------- files and features


def test_features_are_those_of_both_encoders(weights, recorded, tmp_path):
    target = tmp_path / 'mmmim.pth'
    torch.save(convert_checkpoint(weights, 'file.pth', **HEADS), target)
    images = torch.tensor(recorded['eval/images'])
    student, teacher = (mmmim.get_model(target, weights=which) for which in ('student', 'ema'))
    for model, expected in (
        (student, torch.tensor(recorded['eval/post_norm'])),
        (teacher, target_features(weights, images).float()),
    ):
        features = model(images)
        close(features.cls, expected[:, 0])
        close(features.patches[0], expected[:, 1:])
        close(features.pooled, expected[:, 1:].mean(1))
    assert (teacher(images).cls - student(images).cls).abs().max() > 0.1
    assert torch.equal(mmmim.get_model(target)(images).cls, teacher(images).cls)
    context = student.backbone(images, layers=(-1,))
    close(context.hidden[0], recorded['eval/pre_norm'])
    close(torch.cat([context.extra, context.visible], 1), recorded['eval/projected'])
    maps = PretrainedBackbone(str(target), weights='student')(images)[0]
    close(maps.flatten(2).transpose(1, 2), recorded['eval/post_norm'][:, 1:])


def test_an_encoder_alone_gives_features(weights, recorded, tmp_path):
    target = tmp_path / 'mmmim.pth'
    torch.save(convert_checkpoint(samples.latent_mim('encoder'), 'file.pth', num_heads=4), target)
    close(mmmim.get_model(target)(torch.tensor(recorded['eval/images'])).cls, recorded['eval/post_norm'][:, 0])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')


# ------------------------------------------------------------------------------------------------------ what does not


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', **(HEADS | options))


def without(weights, *keys):
    return {key: value for key, value in weights.items() if key not in keys}


def test_what_does_not_fit_is_refused_by_name(weights):
    refused(r'1 missing \(blocks\.1\.mlp\.fc1\.bias\)', without(weights, 'encoder.blocks.1.mlp.fc1.bias'))
    refused(r'missing \(blocks\.0\.attn\.q_proj\.bias', without(weights, 'encoder.blocks.0.attn.qkv.bias'))
    refused(
        r'\(teacher\.backbone\.\*\) .* missing \(projector\.norms\.1\.weight',
        without(weights, 'target_encoder.head.norm1.weight'),
    )
    refused(r'neck\.\*\) .* missing \(mask_token\)', without(weights, 'decoder.mask_token'))
    refused(r'has no backbone\.extra_tokens', without(weights, 'encoder.cls_token'))
    refused(r'has no backbone\.positions\.weight', without(weights, 'encoder.pos_embed.pos_embeds'))
    refused(r'has no backbone\.patch_embed\.weight', samples.latent_mim('target'))
    refused(
        rf'has no {NECK}\.embed\.weight, {NECK}\.proj\.weight',
        without(weights, 'decoder.embed.weight', 'decoder.head.weight'),
    )
    shallow = {key: value for key, value in weights.items() if not key.startswith('target_encoder.blocks.1')}
    refused(r'\(teacher\.backbone\.\*\) does not fit .* missing \(blocks\.1', shallow)


def test_shapes_that_do_not_fit_are_refused_by_name(weights):
    def wrong(message, key, *shape):
        refused(message, weights | {key: torch.zeros(shape)})

    wrong(r'attn\.proj\.weight: \[48, 47\]', 'encoder.blocks.0.attn.proj.weight', 48, 47)
    wrong(r'q_proj\.weight: \[50, 48\]', 'encoder.blocks.0.attn.qkv.weight', 150, 48)
    wrong(r'q_proj\.bias: \[1\].*k_proj\.bias: \[0\]', 'encoder.blocks.0.attn.qkv.bias', 1)
    wrong(r'k_proj\.weight: \[30, 32\]', 'decoder.blocks.0.cross_attn.kv_proj.weight', 60, 32)
    wrong(r'proj\.weight: \[9, 32\]', 'decoder.head.weight', 9, 32)
    wrong(r'encoder\.embed\.proj\.weight has the shape \[48, 193\], not \[D, 3', 'encoder.embed.proj.weight', 48, 193)
    wrong(r'embed\.proj\.weight has the shape \[48, 3, 8, 8\]', 'encoder.embed.proj.weight', 48, 3, 8, 8)
    wrong(r'has the shape \[1, 17, 48\], not \[1 \+ N, D\]', 'encoder.pos_embed.pos_embeds', 1, 17, 48)
    wrong(r'positions\.weight: \[25, 32\]', 'decoder.pos_embed.pos_embeds', 26, 32)
    wrong('12 patches, which are no square', 'encoder.pos_embed.pos_embeds', 13, 48)
    wrong(r'decoder\.mask_token has the shape \[32\], not \[1, 1, D\]', 'decoder.mask_token', 32)
    wrong(r'extra_tokens: \[1, 2, 48\]', 'encoder.cls_token', 1, 2, 48)


def test_a_position_of_cls_is_refused(weights):
    for side in ('encoder', 'target_encoder', 'decoder'):
        key = f'{side}.pos_embed.pos_embeds'
        table = weights[key].clone()
        table[0, 3] = 0.1
        refused(f'{key}: the first row, the position of CLS, is not zero', weights | {key: table})
