"""Where weights arrive, which sizes are read off them, and the features that they give."""

import numpy as np
import pytest
import torch
from mmpretrain.models import SimMIMSwinTransformer, VisionTransformer

import mmmim
from mmmim.converters.mff import LAYOUT as MFF
from mmmim.converters.registry import CONVERTERS
from mmmim.features import PretrainedBackbone
from mmmim.models.backbones.hierarchical import _NumbersOnCPU
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests import reference_latent_mim, reference_pilamim
from tests.test_converters.samples import SAMPLES, mae_of_mmpretrain, recorded, simmim

LATENT, PIXELS, SEMANTIC = (f'branches.{name}.neck' for name in ('latent', 'pixels', 'semantic'))


def convert(name, **options):
    sample = SAMPLES[name]
    options = {**sample.options, **options}
    return CONVERTERS[sample.converter].convert(sample.file(sample.weights()), 'file.pth', **options)


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)


def first(value):
    return value[0]


#: What features do not tell: mmmim's name, the layout's, and which part of its tensor.
WHERE = [
    ('crossmae', f'{PIXELS}.mixture', 'wfm.linear.weight', None),
    ('crossmae', f'{PIXELS}.context_norms.2.weight', 'dec_norms.2.weight', None),
    ('crossmae', f'{PIXELS}.mask_token', 'mask_token', first),
    ('crossmae', f'{PIXELS}.blocks.1.attn.k_proj.bias', 'decoder_blocks.1.cross_attn.kv.bias', lambda v: v[:16]),
    ('crossmae', 'backbone.blocks.3.attn.v_proj.weight', 'blocks.3.attn.qkv.weight', lambda v: v[48:]),
    ('data2vec', 'backbone.blocks.1.attn.k_proj.weight', 'blocks.1.attn.qkv.weight', lambda v: v[24:48]),
    ('data2vec', 'backbone.blocks.2.attn.v_proj.bias', 'blocks.2.attn.v_bias', None),
    ('data2vec', 'backbone.positions.table', 'rel_pos_bias.relative_position_bias_table', None),
    ('data2vec', f'{LATENT}.proj.bias', 'lm_head.bias', None),
    ('ijepa', f'{LATENT}.blocks.1.attn.v_proj.bias', 'predictor.predictor_blocks.1.attn.qkv.bias', lambda v: v[48:]),
    ('ijepa', f'{LATENT}.mask_token', 'predictor.mask_token', first),
    ('latent_mim', f'{LATENT}.blocks.0.cross_attn.k_proj.bias', 'decoder.blocks.0.cross_attn.kv_proj.bias',
     lambda v: v[:32]),
    ('latent_mim', f'{LATENT}.blocks.0.norm2_query.weight', 'decoder.blocks.0.norm2q.weight', None),
    ('latent_mim', f'{LATENT}.blocks.1.norm2_context.bias', 'decoder.blocks.1.norm2kv.bias', None),
    ('mae', 'backbone.blocks.1.attn.k_proj.weight', 'blocks.1.attn.qkv.weight', lambda v: v[64:128]),
    ('mae', f'{PIXELS}.positions.weight', 'decoder_pos_embed', lambda v: v[0, 1:]),
    ('mae', f'{PIXELS}.mask_token', 'mask_token', first),
    ('mae', f'{PIXELS}.blocks.0.attn.v_proj.bias', 'decoder_blocks.0.attn.qkv.bias', lambda v: v[64:]),
    ('mff', f'{PIXELS}.weights', 'backbone.proj_weights', lambda v: v.flatten()),
    ('mff', f'{PIXELS}.projections.0.bias', 'backbone.proj_layers.0.bias', None),
    ('mff', f'{PIXELS}.neck.mask_token', 'neck.mask_token', first),
    ('mff', f'{PIXELS}.neck.blocks.0.attn.v_proj.bias', 'neck.decoder_blocks.0.attn.qkv.bias', lambda v: v[64:]),
    ('pilamim', f'{LATENT}.blocks.1.attn.k_proj.weight', 'target_decoder.transformer.1.attn.qkv.weight',
     lambda v: v[40:80]),
    ('pilamim', f'{PIXELS}.positions.extra', 'decoder.pos_embedding', first),
    ('pilamim', f'{PIXELS}.positions.weight', 'decoder.pos_embedding', lambda v: v[1:, 0]),
    ('pilamim', f'{LATENT}.embed.weight', 'decoder_latent_embed.weight', None),
    ('pilamim', f'{PIXELS}.proj.weight', 'decoder.head.weight',  # colour last instead of first
     lambda v: v.reshape(3, 64, 32).transpose(0, 1).reshape(192, 32)),
    ('pilamim', f'{PIXELS}.proj.bias', 'decoder.head.bias', lambda v: v.reshape(3, 64).T.reshape(192)),
    ('semantic_mim', f'{SEMANTIC}.mask_token', 'backbone.mask_token', first),
    ('semantic_mim', f'{SEMANTIC}.blocks.0.scale2.weight', 'backbone.extra_layers.0.gamma_2', None),
    ('semantic_mim, maskfeat', f'{SEMANTIC}.blocks.1.attn.k_proj.bias', 'backbone.extra_layers.1.attn.kv.bias',
     lambda v: v[:32]),
    ('semantic_mim, maskfeat', f'{SEMANTIC}.proj.bias', 'neck.fc.bias', None),
    ('simmim', 'backbone.mask_token', 'backbone.mask_token', first),
    ('simmim', f'{PIXELS}.proj.weight', 'neck.decoder.0.weight',  # colour last instead of first
     lambda v: v.reshape(3, 64, 16).transpose(0, 1).reshape(192, 16)),
]  # fmt: skip


@pytest.mark.parametrize('name', dict.fromkeys(row[0] for row in WHERE))
def test_where_weights_arrive(name):
    state, weights = convert(name)['state_dict'], SAMPLES[name].weights()
    for _, ours, theirs, part in (row for row in WHERE if row[0] == name):
        expected = weights[theirs] if part is None else part(weights[theirs])
        assert torch.equal(state[ours], expected), ours
    if name == 'mae':
        assert torch.equal(state['backbone.extra_tokens'], weights['cls_token'] + weights['pos_embed'][:, :1])


#: What the words of the tool do not say.
SIZES = [
    ('latent_mim', {}, dict(backbone=dict(mlp_ratio=4, projector_dims=[64, 64]), latent=dict(grid=(4, 4)))),
    ('latent_mim, encoder', {'num_heads': 3}, dict(
        latent=dict(embed_dim=512, depth=3, num_heads=16, context_dim=48))),
    ('crossmae', {}, dict(
        backbone=dict(mlp_ratio=4, final_norm=False), pixels=dict(layers=[0, 1, 2, 3], embedded=True, grid=(4, 4)))),
    ('mae', {'num_heads': 8, 'decoder_num_heads': 4}, dict(
        backbone=dict(num_heads=8, mlp_ratio=4), pixels=dict(num_heads=4, out_dim=48))),
    ('semantic_mim', {}, dict(backbone=dict(qkv_bias='qv', layer_scale=0.1, drop_path_rate=(0.0, 0.1)))),
    ('semantic_mim, maskfeat', {'num_heads': 2}, dict(
        backbone=dict(img_size=224, num_heads=2, num_cls_tokens=8, qkv_bias=True, layer_scale=None,
                      drop_path_rate=0.0))),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'options', 'parts'), SIZES)
def test_sizes_are_read_off_the_shapes(name, options, parts):
    config = convert(name, **options)['mmmim']['model']
    for part, sizes in parts.items():
        found = config['backbone'] if part == 'backbone' else config['branches'][part]['neck']
        assert {key: found[key] for key in sizes} == sizes


def test_targets_of_the_configs():
    def target(name, branch, **options):
        return convert(name, **options)['mmmim']['model']['branches'][branch]['target_generator']

    raw = {'type': 'mmmim.PixelTarget', 'patch_size': 4, 'in_channels': 3, 'normalize': False}
    assert target('mae', 'pixels', normalize=False) == raw
    assert target('mae', 'pixels')['normalize']
    assert target('pilamim', 'pixels') == {**raw, 'patch_size': 8}
    assert target('semantic_mim', 'semantic')['tokenizer']['num_tokens'] == 24
    assert target('semantic_mim, maskfeat', 'semantic')['type'] == 'mmmim.HOGTarget'
    for name in ('ijepa', 'latent_mim', 'pilamim'):
        assert convert(name)['mmmim']['model']['teacher'] == ['backbone']


#: Width, heads of the released code and hidden width of the MLPs.
WIDTHS = [(192, 3, 768), (1280, 16, 5120), (1408, 16, 6144)]


@pytest.mark.parametrize(('dim', 'heads', 'hidden'), WIDTHS)
def test_sizes_of_the_released_code(dim, heads, hidden):
    shapes = {
        'backbone.patch_embed.weight': (dim, 3, 14, 14),
        'backbone.positions.weight': (256, dim),
        'backbone.extra_tokens': (1, 1, dim),
        'backbone.blocks.0.mlp.fc1.weight': (hidden, dim),
    }
    weights = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    for name in ('ijepa', 'latent_mim', 'mae'):
        config = CONVERTERS[name].module.model_config(weights)
        assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (heads, 224)
    neck = {f'{LATENT}.embed.weight': (384, dim), f'{LATENT}.blocks.0.mlp.fc1.weight': (1536, 384)}
    weights |= {key: torch.empty(shape, device='meta') for key, shape in neck.items()}
    config = CONVERTERS['ijepa'].module.model_config(weights)
    assert config['branches']['latent']['neck']['num_heads'] == heads
    with torch.device('meta'):
        assert MODELS.build(config).backbone.blocks[0].mlp.fc1.weight.shape == (hidden, dim)


def test_the_size_of_the_paper_of_pilamim():
    """A whole ViT-B/16 without memory: 12 heads, and the number of weights of the paper's sizes."""
    sizes = dict(reference_pilamim.TOY, img=224, patch=16, dim=768, depth=12, pdim=384, ldim=384, ddepth=6)
    with torch.device('meta'):
        weights = reference_pilamim.new_weights(sizes, None)
    state = {name: value.float() for name, value in weights.items()}
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(194.15, abs=0.01)
    config = CONVERTERS['pilamim'].convert(state, 'file.pt')['mmmim']['model']
    assert (config['backbone']['num_heads'], config['backbone']['img_size']) == (12, 224)
    assert {branch['neck']['num_heads'] for branch in config['branches'].values()} == {12}


def on_the_meta_device(**config):
    with torch.device('meta'), _NumbersOnCPU():
        model = MODELS.build({**config, '_scope_': 'mmpretrain'})
    return {f'backbone.{key}': value for key, value in model.state_dict().items()}


def test_the_sizes_of_mmpretrain():
    """Whole encoders of its configs without memory: Swin-B and Swin-L of SimMIM at 192 pixels, ViT-B/16 of MFF."""
    for arch, window in (('base', 6), ('large', 12)):
        windows = dict(block_cfgs=dict(window_size=window))
        swin = dict(type='SimMIMSwinTransformer', arch=arch, img_size=192, stage_cfgs=windows)
        weights = on_the_meta_device(**swin)
        config = CONVERTERS['simmim'].convert(weights, 'swin.pth')['mmmim']['model']
        with torch.device('meta'):
            encoder = MODELS.build(config['backbone'])
        assert (encoder.grid, encoder.patch_size, encoder.depth) == ((6, 6), 32, 2)
        shapes = {f'backbone.{key}': value.shape for key, value in encoder.encoder.state_dict().items()}
        assert shapes == {key: value.shape for key, value in weights.items() if key != 'backbone.mask_token'}
        assert encoder.encoder.stages[3].blocks[0].attn.pad_small_map == (arch == 'large')
        assert config['branches']['pixels']['neck']['out_dim'] == 3072
    mff = on_the_meta_device(type='MFFViT', arch='b', out_indices=[0, 2, 4, 6, 8, 11])
    decoder = MODELS.build(dict(type='MAEPretrainDecoder', _scope_='mmpretrain'))
    decoder.init_weights()  # whose positions are looked at
    weights = MFF.convert(mff | {f'neck.{key}': value for key, value in decoder.state_dict().items()})
    config = CONVERTERS['mff'].module.model_config(weights)
    assert config['backbone']['depth'] == 12
    assert config['branches']['pixels']['neck']['layers'] == [0, 2, 4, 6, 8, 11]


def test_normalisation_of_the_images_is_kept_where_the_file_has_it():
    values = {'mean': [1.0, 2.0, 3.0], 'std': [4.0, 5.0, 6.0]}
    statistics = {f'data_preprocessor.{key}': torch.tensor(value).view(3, 1, 1) for key, value in values.items()}
    file = {'state_dict': mae_of_mmpretrain() | statistics}
    preprocessor = MODELS.build(CONVERTERS['mae'].convert(file, 'file.pth')['mmmim']['model']['data_preprocessor'])
    assert {key: getattr(preprocessor, key).flatten().tolist() for key in values} == values
    assert 'data_preprocessor' not in convert('mae of mmpretrain')['mmmim']['model']
    config = CONVERTERS['simmim'].convert(simmim() | statistics, 'file.pth')['mmmim']['model']
    assert values.items() <= config['backbone'].items()
    assert values.items() <= config['data_preprocessor'].items()


# ----------------------------------------------------------------------------------------------------------- features


def tokens_of_latent_mim(images):
    """Normed tokens of the target encoder for whole images, by the reference."""
    none = torch.zeros(len(images), 4, 4, dtype=torch.long)
    patches = reference_latent_mim.cut(images, 8, 0, none, none)
    config = {**reference_latent_mim.TOY, 'gap': 0}
    index = torch.arange(16).expand(len(images), -1)
    weights = SAMPLES['latent_mim'].weights()
    return reference_latent_mim.encode(weights, 'target_encoder', config, patches, index)[1].float()


def tokens_of_pilamim(images):
    order = torch.arange(16).expand(len(images), -1)
    return reference_pilamim.targets_of(SAMPLES['pilamim'].weights(), reference_pilamim.TOY, images, order)


#: Arrays of images and of the tokens of the student, the tokens of the teacher, and how many of them are no patches.
TOKENS = [
    ('ijepa', 'ijepa', 'images', 'encoder_full', lambda _: recorded('ijepa')['target_full'], 0),
    ('latent_mim', 'latentmim', 'eval/images', 'eval/post_norm', tokens_of_latent_mim, 1),
    ('latent_mim, encoder', 'latentmim', 'eval/images', 'eval/post_norm', None, 1),
    ('pilamim', 'pilamim', 'images', 'probe/features', tokens_of_pilamim, 1),
    ('semantic_mim', 'semanticmim_beit', 'images', 'eval/layer1', None, 3),
]


@pytest.mark.parametrize(('name', 'run', 'images', 'tokens', 'of_teacher', 'extra'), TOKENS)
def test_features_are_those_of_the_authors(name, run, images, tokens, of_teacher, extra, tmp_path):
    target = tmp_path / 'mmmim.pth'
    torch.save(convert(name), target)
    images, tokens = (torch.tensor(recorded(run)[key]) for key in (images, tokens))
    expected = {'student': tokens}
    if of_teacher is None:
        with pytest.raises(InputError, match='student weights only'):
            mmmim.get_model(target, weights='ema')
    else:
        expected['ema'] = torch.as_tensor(of_teacher(images))
        assert (expected['ema'] - tokens).abs().max() > 0.01
    for which, values in expected.items():
        features = mmmim.get_model(target, weights=which)(images)
        close(features.patches[0], values[:, extra:])
        close(features.pooled, values[:, extra:].mean(1))
        if extra == 1:
            close(features.cls, values[:, 0])
    assert torch.equal(mmmim.get_model(target)(images).pooled, features.pooled)  # the teacher's where there is one
    maps = PretrainedBackbone(str(target), weights='student').eval()(images)[0]
    close(maps.flatten(2).transpose(1, 2), tokens[:, extra:])


@pytest.mark.parametrize('name', ['mff', 'simmim'])
def test_features_are_those_of_mmpretrain(name, tmp_path):
    torch.save(convert(name), tmp_path / 'mmmim.pth')
    arch = dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=256)
    vit = dict(type='MFFViT', arch=arch, img_size=12, patch_size=4, out_indices=[0, 1])
    swin = dict(type='SimMIMSwinTransformer', arch=dict(embed_dims=8, depths=[1, 2], num_heads=[1, 2]), img_size=24)
    swin |= dict(stage_cfgs=dict(block_cfgs=dict(window_size=3)), out_indices=(1,))
    theirs = MODELS.build({**(vit if name == 'mff' else swin), '_scope_': 'mmpretrain'})
    theirs.eval()  # which returns nothing there
    weights = SAMPLES[name].weights()
    theirs.load_state_dict({key[9:]: value for key, value in weights.items() if key.startswith('backbone.')})
    images = torch.randn(2, 3, *((12, 12) if name == 'mff' else (24, 48)), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # With mask=None their MFFViT masks as MAE does by default: its forward without masks is that of its base.
        whole = VisionTransformer.forward if name == 'mff' else SimMIMSwinTransformer.forward
        expected = whole(theirs, images, **({} if name == 'mff' else {'mask': None}))[-1]
    features = mmmim.get_model(tmp_path / 'mmmim.pth')(images)
    if name == 'mff':
        close(features.cls, expected[:, 0])
        close(features.patches[0], expected[:, 1:])
    else:
        close(features.patches[0], expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('name', ['capi', 'capi without head'])
def test_features_of_capi_are_the_recorded_ones(name, tmp_path):
    torch.save(convert(name), tmp_path / 'mmmim.pth')
    arrays = recorded('capi')
    features = mmmim.get_model(tmp_path / 'mmmim.pth')(torch.from_numpy(arrays['images']))
    for ours, theirs in (
        (features.predicted, 'eval_global'),
        (features.extra[0], 'eval_registers'),
        (features.patches[0].unflatten(1, features.grid), 'eval_featmap'),
    ):
        np.testing.assert_allclose(ours.numpy(), arrays[theirs], atol=1e-5 * np.abs(arrays[theirs]).max())
