import pytest
import torch
from mmengine import Config
from mmpretrain.models import VisionTransformer

import mmmim
from mmmim.cli.convert import main
from mmmim.converters.ijepa import DRIFT, NECK, PARTS, collect, convert_checkpoint, model_config
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests import reference_ijepa as reference
from tests.paths import ROOT
from tests.test_converters import samples
from tests.test_converters.samples import ijepa_file

DIM = 48


@pytest.fixture
def recorded():
    return samples.recorded('ijepa')


@pytest.fixture
def weights():
    """``encoder.*``, ``predictor.*`` and ``target_encoder.*``."""
    return samples.ijepa()


def convert(weights, **options):
    return convert_checkpoint(ijepa_file(weights), 'file.pth.tar', **{'num_heads': 4, **options})


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- what arrives


def test_where_weights_arrive(weights):
    state = convert(weights)['state_dict']
    for part, root in (('encoder.blocks', 'backbone.blocks'), ('predictor.predictor_blocks', f'{NECK}.blocks')):
        fused = weights[f'{part}.1.attn.qkv.weight']
        for name, piece in zip('qkv', fused.chunk(3), strict=True):
            assert torch.equal(state[f'{root}.1.attn.{name}_proj.weight'], piece)
    assert torch.equal(state['teacher.backbone.patch_embed.weight'], weights['target_encoder.patch_embed.proj.weight'])
    assert torch.equal(state['backbone.positions.weight'], weights['encoder.pos_embed'][0])
    assert torch.equal(state[f'{NECK}.mask_token'], weights['predictor.mask_token'][0])
    assert torch.equal(state[f'{NECK}.proj.bias'], weights['predictor.predictor_proj.bias'])


@pytest.mark.parametrize(('which', 'name'), [('target_encoder', 'ema'), ('encoder', 'student')])
def test_one_encoder_alone(weights, which, name):
    # The other tables are not even read.
    table = {which: ijepa_file(weights)[which]}
    converted = convert_checkpoint(table, 'file.pth.tar', 4, which)
    assert converted['mmmim']['weights'] == name
    assert {key.split('.')[0] for key in converted['state_dict']} == {'backbone'}
    for key, value in weights.items():
        if key.startswith(f'{which}.'):
            assert torch.equal(collect(key.removeprefix('target_'), converted['state_dict']), value)
    neck = converted['mmmim']['model']['branches']['latent']['neck']
    assert (neck['embed_dim'], neck['depth'], neck['context_dim']) == (384, 12, DIM)


def test_config_is_read_off_the_shapes(weights):
    config = convert(weights)['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['latent']
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (64, 8, 4)
    assert (backbone['embed_dim'], backbone['depth'], backbone['mlp_ratio']) == (DIM, 2, 4)
    neck = branch['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['grid']) == (24, 2, 4, (8, 8))
    assert (neck['out_dim'], config['teacher']) == (DIM, ['backbone'])
    assert convert(weights, num_heads=3)['mmmim']['model']['branches']['latent']['neck']['num_heads'] == 3


WIDTHS = [(192, 3, 768), (384, 6, 1536), (768, 12, 3072), (1024, 16, 4096), (1280, 16, 5120), (1408, 16, 6144)]


@pytest.mark.parametrize(('dim', 'heads', 'hidden'), WIDTHS)
def test_sizes_of_the_released_code(dim, heads, hidden):
    shapes = {
        'backbone.patch_embed.weight': (dim, 3, 14, 14),
        'backbone.positions.weight': (256, dim),
        'backbone.blocks.0.mlp.fc1.weight': (hidden, dim),
        f'{NECK}.embed.weight': (384, dim),
        f'{NECK}.blocks.0.mlp.fc1.weight': (1536, 384),
    }
    config = model_config({key: torch.empty(shape, device='meta') for key, shape in shapes.items()})
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)
    assert config['branches']['latent']['neck']['num_heads'] == heads
    with torch.device('meta'):
        model = MODELS.build(config)
    assert model.backbone.blocks[0].mlp.fc1.weight.shape == (hidden, dim)


def test_the_model_is_that_of_the_config(weights):
    """But for sizes."""
    sizes = {'img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads', 'in_dim', 'context_dim', 'out_dim', 'grid'}
    one = Config.fromfile(ROOT / 'configs/ijepa/vitb16.py').model.to_dict()
    other = convert(weights)['mmmim']['model']
    assert one['teacher'] == other['teacher']
    branches = one['branches']['latent'], other['branches']['latent']
    for key in ('target_generator', 'neck', 'head'):
        ours, theirs = (branch[key] for branch in branches)
        assert {k: v for k, v in ours.items() if k not in sizes} == {k: theirs[k] for k in ours if k not in sizes}
    ours, theirs = one['backbone'], other['backbone']
    assert {k: v for k, v in ours.items() if k not in sizes} == {k: theirs[k] for k in ours if k not in sizes}


# ------------------------------------------------------------------------------------------------- files and features


def in_mmpretrain(weights, part):
    """A plain Vision Transformer of mmpretrain with the weights of an encoder."""
    arch = dict(embed_dims=DIM, num_layers=2, num_heads=4, feedforward_channels=4 * DIM)
    vit = VisionTransformer(arch, 64, 8, out_type='raw', with_cls_token=False, final_norm=True)
    names = {'patch_embed.proj.': 'patch_embed.projection.', 'blocks.': 'layers.', 'norm1': 'ln1', 'norm2': 'ln2'}
    names |= {'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}
    state = {}
    for key, value in weights.items():
        if key.startswith(f'{part}.'):
            key = key.removeprefix(f'{part}.')
            for theirs, name in names.items():
                key = key.replace(theirs, name)
            state['ln1' + key.removeprefix('norm') if key.startswith('norm.') else key] = value
    vit.load_state_dict(state)
    vit.eval()
    return vit


def test_features_are_those_of_both_encoders(weights, recorded, tmp_path):
    target = tmp_path / 'mmmim.pth'
    torch.save(convert(weights), target)
    images = torch.tensor(recorded['images'])
    student, teacher = (mmmim.get_model(target, weights=which) for which in ('student', 'ema'))
    for model, part, expected in (
        (student, 'encoder', recorded['encoder_full']),
        (teacher, 'target_encoder', recorded['target_full']),
    ):
        features = model(images)
        close(features.patches[0], expected)
        close(features.pooled, expected.mean(1))
        assert features.cls is None
        with torch.no_grad():
            theirs = in_mmpretrain(weights, part)(images)[0]
        close(features.patches[0].flatten(1), theirs.reshape(len(images), -1))
    assert (teacher(images).pooled - student(images).pooled).abs().max() > 0.01
    assert torch.equal(mmmim.get_model(target)(images).pooled, teacher(images).pooled)
    maps = PretrainedBackbone(str(target), weights='student')(images)[0]
    close(maps.flatten(2).transpose(1, 2), recorded['encoder_full'])


@pytest.mark.parametrize(('which', 'array'), [('target_encoder', 'target_full'), ('encoder', 'encoder_full')])
def test_one_encoder_by_the_tool(weights, recorded, tmp_path, capsys, which, array):
    source, target = tmp_path / 'IN1K.pth.tar', tmp_path / 'mmmim.pth'
    torch.save(ijepa_file(weights), source)
    main([str(source), str(target), '--num-heads', '4', '--encoder', which])
    assert f'{which} alone: for features only' in capsys.readouterr().out
    close(mmmim.get_model(target)(torch.tensor(recorded['images'])).patches[0], recorded[array])


# ---------------------------------------------------------------------------------------------------- positions


def test_a_table_that_drifted_is_taken_from_the_file(weights):
    key = 'target_encoder.pos_embed'
    drifted = weights[key] + 2e-4 * torch.randn(weights[key].shape).clamp(-1, 1)
    state = convert(weights | {key: drifted})['state_dict']
    assert torch.equal(state['teacher.backbone.positions.weight'], drifted[0])
    assert torch.equal(state['backbone.positions.weight'], weights['encoder.pos_embed'][0])


def test_the_average_of_a_table_drifts_less_than_is_allowed():
    """By rounding alone, in the first 3,000 steps of a training; 8e-6 is as far as it goes in 20,000."""
    table = reference.position_table(8, DIM).float()
    average = table.clone()
    for step in range(3000):
        momentum = 0.996 + step * 0.004 / 187_500
        average = average.mul_(momentum).add_((1 - momentum) * table)
    drift = (average - table).abs().max().item()
    assert 1e-6 < drift < 1e-5 < DRIFT['target_encoder']


@pytest.mark.parametrize('part', PARTS)
def test_other_positions_are_refused(weights, part):
    key = f'{part}.predictor_pos_embed' if part == 'predictor' else f'{part}.pos_embed'
    table = weights[key]
    rows_first = table.unflatten(1, (8, 8)).transpose(1, 2).flatten(1, 2)
    for wrong in (rows_first, table.flip(2), torch.randn_like(table), table + 0.01, table * float('nan')):
        refused(f'{key} differs by .* from the fixed positions of I-JEPA', weights | {key: wrong})
    refused('has positions of 65 patches, which are no square', weights | {key: torch.zeros(1, 65, table.shape[2])})
    refused(rf'{key} has the shape \[64, \d+\], not \[1, N, D\]', weights | {key: table[0]})


# ------------------------------------------------------------------------------------------------------ what does not


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert(weights, **options)


def without(weights, *keys):
    return {key: value for key, value in weights.items() if key not in keys}


def test_what_does_not_fit_is_refused_by_name(weights):
    refused(r'1 missing \(blocks\.1\.mlp\.fc1\.bias\)', without(weights, 'encoder.blocks.1.mlp.fc1.bias'))
    refused(r'missing \(blocks\.0\.attn\.q_proj\.bias', without(weights, 'encoder.blocks.0.attn.qkv.bias'))
    refused(r'\(teacher\.backbone\.\*\) .* missing \(norm\.weight', without(weights, 'target_encoder.norm.weight'))
    refused(r'neck\.\*\) .* missing \(mask_token\)', without(weights, 'predictor.mask_token'))
    refused(r'missing \(positions\.weight\)', without(weights, 'predictor.predictor_pos_embed'))
    refused(r'has no backbone\.positions\.weight', without(weights, 'encoder.pos_embed'))
    refused(r'has no backbone\.patch_embed\.weight', without(weights, 'encoder.patch_embed.proj.weight'))
    refused(rf'has no {NECK}\.embed\.weight', without(weights, 'predictor.predictor_embed.weight'))
    shallow = {key: value for key, value in weights.items() if not key.startswith('target_encoder.blocks.1')}
    refused(r'\(teacher\.backbone\.\*\) does not fit .* missing \(blocks\.1', shallow)


def test_shapes_that_do_not_fit_are_refused_by_name(weights):
    def wrong(message, key, *shape):
        refused(message, weights | {key: torch.zeros(shape)})

    wrong(r'attn\.proj\.weight: \[48, 47\]', 'encoder.blocks.0.attn.proj.weight', 48, 47)
    wrong(r'q_proj\.weight: \[50, 48\]', 'encoder.blocks.0.attn.qkv.weight', 150, 48)
    wrong(r'proj\.weight: \[9, 24\]', 'predictor.predictor_proj.weight', 9, 24)
    wrong(r'the patch embedding has the shape \[48, 192\]', 'encoder.patch_embed.proj.weight', 48, 192)
    wrong(r'mask_token has the shape \[24\], not \[1, N, D\]', 'predictor.mask_token', 24)
    wrong(r'mask_token: \[2, 24\]', 'predictor.mask_token', 1, 2, 24)


def test_other_files_are_refused_with_an_explanation(weights):
    file = ijepa_file(weights)
    for missing in ('encoder', 'predictor', 'target_encoder'):
        with pytest.raises(InputError, match=f'has no {missing}: a training checkpoint of I-JEPA holds the tables'):
            convert_checkpoint({key: value for key, value in file.items() if key != missing}, 'file.pth.tar', 4)
    with pytest.raises(InputError, match=r'has no encoder, target_encoder, predictor.*This file has model'):
        convert_checkpoint({'model': {}}, 'file.pth.tar', 4)
    with pytest.raises(InputError, match=r'file.pth.tar, predictor holds no flat table of tensors \(not tensors: '):
        convert_checkpoint({**file, 'predictor': {'module.mask_token': None}}, 'file.pth.tar', 4)
    with pytest.raises(InputError, match=r'file.pth.tar, encoder holds no flat table'):
        convert_checkpoint({**file, 'encoder': {}}, 'file.pth.tar', 4)
