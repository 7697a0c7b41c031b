import runpy
from argparse import Namespace

import numpy as np
import pytest
import torch

import mmmim
from mmmim.converters.latent_mim import NECK, adapt, collect, convert_checkpoint, mmmim_names, restore
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests import reference_latent_mim as reference
from tests.paths import ROOT, run_tool

DIM, DECODER_DIM = 48, 32
HEADS = dict(num_heads=4, decoder_num_heads=4)


@pytest.fixture(scope='module')
def recorded():
    with np.load(ROOT / 'tests/data/latentmim_tiny.npz') as file:
        return dict(file)


@pytest.fixture
def weights(recorded):
    return {key.removeprefix('sd/'): torch.tensor(a) for key, a in recorded.items() if key.startswith('sd/')}


def only(weights, *sides):
    return {key: value for key, value in weights.items() if key.startswith(sides)}


def as_trained(weights):
    """As the training of the authors writes it."""
    state = {f'module.{key}': value for key, value in weights.items()}
    return {'state_dict': state, 'optimizer': {'state': {}}, 'loss_scaler': {'scale': 65536.0}, 'epoch': 800}


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


@pytest.mark.parametrize(
    'sides', [('encoder',), ('encoder', 'decoder'), ('encoder', 'target'), ('encoder', 'target', 'decoder')]
)
def test_every_weight_arrives(weights, sides):
    weights = only(weights, *sides)
    converted = convert_checkpoint(weights, 'file.pth', **HEADS)
    state = converted['state_dict']
    model = MODELS.build(converted['mmmim']['model'])
    left = {key for key in model.state_dict() if key not in state}
    parts = {'target': 'teacher.', 'decoder': f'{NECK}.'}
    missing = tuple(prefix for side, prefix in parts.items() if side not in sides)
    assert all(key.startswith(missing) for key in left)
    assert bool(left) == bool(missing)
    model.load_state_dict(state, strict=not missing)
    own = model.state_dict()
    for key, value in weights.items():
        if key.endswith('pos_embeds'):
            assert torch.equal(own[mmmim_names(key)[0]], value[1:])
        else:
            assert torch.equal(collect(key, own), value), key
    assert sum(value.numel() for value in state.values()) == sum(
        value.numel() - (value.shape[-1] if key.endswith('pos_embeds') else 0) for key, value in weights.items()
    )


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
            assert torch.equal(restore(key, adapt(key, value)), value)
    assert collect('encoder.gamma', {}) is None
    assert collect('encoder.norm.weight', {}) is None


@pytest.mark.parametrize(
    'wrap', [lambda w: w, as_trained, lambda w: {'state_dict': w}, lambda w: as_trained(w)['state_dict']]
)
def test_wrappers_of_files(weights, wrap):
    one, other = (convert_checkpoint(file, 'file.pth', **HEADS) for file in (weights, wrap(weights)))
    assert one['mmmim'] == other['mmmim']
    assert one['state_dict'].keys() == other['state_dict'].keys()
    assert all(torch.equal(value, other['state_dict'][key]) for key, value in one['state_dict'].items())


@pytest.mark.parametrize('table', [5, [1], {}, {3: torch.zeros(1)}, {'a': 1}])
def test_what_is_no_table_of_weights_is_refused(table):
    with pytest.raises(InputError, match=r'x\.pth holds no flat table of tensors'):
        convert_checkpoint({'state_dict': table}, 'x.pth')


def test_config_is_read_off_the_shapes(weights):
    config = convert_checkpoint(weights, 'file.pth', **HEADS)['mmmim']['model']
    backbone, branch = config['backbone'], config['branches']['latent']
    assert (backbone['img_size'], backbone['patch_size'], backbone['num_heads']) == (32, 8, 4)
    assert (backbone['embed_dim'], backbone['depth'], backbone['mlp_ratio']) == (48, 2, 4)
    assert backbone['projector_dims'] == [64, 64]
    neck = branch['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['grid']) == (32, 2, 4, (4, 4))
    assert config['teacher'] == ['backbone']
    plain = convert_checkpoint(only(weights, 'encoder'), 'file.pth', num_heads=3)['mmmim']['model']
    neck = plain['branches']['latent']['neck']
    assert (neck['embed_dim'], neck['depth'], neck['num_heads'], neck['context_dim']) == (512, 3, 16, 48)


@pytest.mark.parametrize(('dim', 'heads'), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_the_widths_of_the_paper(dim, heads):
    from mmmim.converters.latent_mim import model_config

    weights = {
        'backbone.extra_tokens': torch.empty(1, 1, dim, device='meta'),
        'backbone.positions.weight': torch.empty(14**2, dim, device='meta'),
        'backbone.patch_embed.weight': torch.empty(dim, 3, 16, 16, device='meta'),
    }
    config = model_config(weights)
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)


# ------------------------------------------------------------------------------------------------- files and features


def tool(monkeypatch, *args):
    """The tool, in this process."""
    monkeypatch.setattr('sys.argv', ['latent_mim_to_mmmim.py', *map(str, args)])
    runpy.run_path(str(ROOT / 'tools/model_converters/latent_mim_to_mmmim.py'), run_name='__main__')


def test_from_file_to_features_by_the_tool(weights, recorded, tmp_path):
    source, target = tmp_path / 'checkpoint_0800.pth', tmp_path / 'mmmim.pth'
    torch.save(as_trained(weights), source)
    result = run_tool(
        'model_converters/latent_mim_to_mmmim.py', source, target, '--num-heads', 4, '--decoder-num-heads', 4
    )
    assert result.returncode == 0, result.stderr
    said = '2 blocks x 48 with 4 heads, patch 8, 32 px, with its target encoder; decoder of 2 blocks x 32 with 4 heads'
    assert said in result.stdout
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


def test_an_encoder_alone_gives_features(weights, recorded, tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'encoder.pth', tmp_path / 'mmmim.pth'
    torch.save(only(weights, 'encoder'), source)
    tool(monkeypatch, source, target, '--num-heads', 4)
    assert 'without its target encoder; no decoder: for features only' in capsys.readouterr().out
    close(mmmim.get_model(target)(torch.tensor(recorded['eval/images'])).cls, recorded['eval/post_norm'][:, 0])
    with pytest.raises(InputError, match='student weights only'):
        mmmim.get_model(target, weights='ema')


def test_a_converted_model_goes_on_training(weights):
    converted = convert_checkpoint(weights, 'file.pth', **HEADS)
    model = MODELS.build(converted['mmmim']['model'])
    model.load_state_dict(converted['state_dict'])
    from tests.toys import random_mask

    images = torch.randn(2, 3, 32, 32)
    mask = random_mask(2, visible=4, predict=12)
    losses = model.loss(images, mask, model.targets(images, mask, differentiable=False))
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_files_with_python_objects_are_read_on_request_only(weights, tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'checkpoint_latest.pth', tmp_path / 'mmmim.pth'
    torch.save({**as_trained(weights), 'args': Namespace(lr=1e-3)}, source)
    options = ['--num-heads', 4, '--decoder-num-heads', 4]
    with pytest.raises(SystemExit):
        tool(monkeypatch, source, target, *options)
    assert 'trust_checkpoint' in capsys.readouterr().err
    assert not target.exists()
    tool(monkeypatch, source, target, *options, '--trust-checkpoint')
    assert mmmim.get_model(target).backbone.depth == 2


# ------------------------------------------------------------------------------------------------------ what does not


def refused(message, weights, **options):
    with pytest.raises(InputError, match=message):
        convert_checkpoint(weights, 'file.pth', **(HEADS | options))


def without(weights, *keys):
    return {key: value for key, value in weights.items() if key not in keys}


def test_what_does_not_fit_is_refused_by_name(weights):
    for name in ('encoder.blocks.0.ls1.gamma', 'decoder.mask', 'fc.weight', 'target_encoder.queue', 'module'):
        refused(f'file.pth: 1 keys are not in the layout of Latent MIM .* e.g. {name}', weights | {name: torch.ones(1)})
    refused(r'1 missing \(blocks\.1\.mlp\.fc1\.bias\)', without(weights, 'encoder.blocks.1.mlp.fc1.bias'))
    refused(r'missing \(blocks\.0\.attn\.q_proj\.bias', without(weights, 'encoder.blocks.0.attn.qkv.bias'))
    refused(
        r'\(teacher\.backbone\.\*\) .* missing \(projector\.norms\.1\.weight',
        without(weights, 'target_encoder.head.norm1.weight'),
    )
    refused(r'neck\.\*\) .* missing \(mask_token\)', without(weights, 'decoder.mask_token'))
    refused(r'has no backbone\.extra_tokens', without(weights, 'encoder.cls_token'))
    refused(r'has no backbone\.positions\.weight', without(weights, 'encoder.pos_embed.pos_embeds'))
    refused(r'has no backbone\.patch_embed\.weight', only(weights, 'target'))
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


def test_heads_that_do_not_fit(weights):
    refused('7 attention heads do not divide the width 48: give --num-heads', weights, num_heads=7)
    refused('5 attention heads do not divide the width 32: give --decoder-num-heads', weights, decoder_num_heads=5)
    refused('0 attention heads', weights, num_heads=0)
    refused('the width 48 does not tell how many attention heads: give --num-heads', weights, num_heads=None)


def test_other_files_are_refused_with_an_explanation():
    refused('no flat table of tensors', {'epoch': 3})
    refused('no flat table of tensors', {'state_dict': {}})
    refused('not in the layout of Latent MIM', {'model': torch.ones(1)})
    refused(
        'not in the layout of Latent MIM .*encoder.*decoder', {'state_dict': {'backbone.norm.weight': torch.ones(1)}}
    )
