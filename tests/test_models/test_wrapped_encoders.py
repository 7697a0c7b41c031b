import copy

import pytest
import timm
import torch
from mmpretrain.registry import MODELS as MMPRETRAIN
from safetensors.torch import save_file

from mmmim.apis import FeatureExtractor
from mmmim.features import PretrainedBackbone
from mmmim.models import MMPretrainEncoder, TimmEncoder
from mmmim.models.backbones import timm_encoder
from mmmim.registry import MODELS
from mmmim.utils import InputError

TINY = {'embed_dim': 32, 'depth': 3, 'num_heads': 2, 'img_size': 64}
TIMM = {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', **TINY}
ARCH = {'embed_dims': 32, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 64}
MMP = {'type': 'mmmim.MMPretrainEncoder', 'name': 'VisionTransformer', 'arch': ARCH, 'img_size': 64}
WRAPPED = pytest.mark.parametrize('config', [TIMM, MMP], ids=['timm', 'mmpretrain'])


@pytest.mark.parametrize(
    ('name', 'options', 'cls', 'extra', 'patch'),
    [
        ('vit_tiny_patch16_224', {}, 1, 1, 16),
        ('vit_small_patch14_reg4_dinov2.lvd142m', {'img_size': 70}, 1, 5, 14),
        ('eva02_tiny_patch14_224', {'img_size': 70}, 1, 1, 14),
        ('vit_base_patch16_siglip_224', {}, 0, 0, 16),
    ],
)
def test_timm_models_give_their_own_outputs(name, options, cls, extra, patch):
    torch.manual_seed(0)
    encoder = TimmEncoder(name, **{**TINY, **options}).eval()
    found = (encoder.num_cls_tokens, encoder.num_extra_tokens, encoder.patch_size, encoder.embed_dim, encoder.depth)
    assert found == (cls, extra, patch, 32, 3)
    for size in ((5 * patch, 5 * patch), (3 * patch, 4 * patch)):
        images = torch.randn(2, 3, *size)
        context = encoder(images, layers=(-1, 0, -1))
        expected = encoder.encoder.forward_features(images)
        assert torch.equal(torch.cat([context.extra, context.visible], dim=1), expected)
        assert context.grid == (size[0] // patch, size[1] // patch)
        first = encoder.encoder.forward_intermediates(images, indices=[0], output_fmt='NLC', intermediates_only=True)[0]
        assert torch.equal(context.hidden[1][:, extra:], first)
        assert torch.equal(encoder.norm(context.hidden[0]), expected)


def test_pooling_by_attention_is_frozen_and_loaded(tmp_path):
    torch.manual_seed(0)
    config = {**TIMM, 'name': 'vit_base_patch16_siglip_224'}
    state = timm.create_model(config['name'], **TINY, num_classes=0).state_dict()
    save_file(state, tmp_path / 'model.safetensors')
    model = PretrainedBackbone(str(tmp_path / 'model.safetensors'), encoder=config)
    assert model.backbone.encoder.state_dict().keys() == state.keys()
    assert torch.equal(model.backbone.encoder.attn_pool.latent, state['attn_pool.latent'])
    sum(m.square().mean() for m in model(torch.randn(2, 3, 64, 64))).backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert idle == {name for name, _ in model.named_parameters() if 'attn_pool' in name}


@pytest.mark.parametrize('name', ['MAEViT', 'BEiTViT'])
def test_mmpretrain_models_give_their_own_outputs(name):
    torch.manual_seed(0)
    options = {'arch': ARCH, 'img_size': 64, 'patch_size': 16}
    encoder = MMPretrainEncoder(name, **options).eval()
    theirs = MMPRETRAIN.build({'type': f'mmpretrain.{name}', 'out_type': 'featmap', 'out_indices': [0, 2], **options})
    theirs.eval()
    theirs.load_state_dict(encoder.encoder.state_dict())
    inputs = {'mask': None} if name == 'MAEViT' else {}
    # mmpretrain's positions by distance are of one size.
    for size in ((64, 64),) if name == 'BEiTViT' else ((64, 64), (48, 80)):
        images = torch.randn(2, 3, *size)
        first, last = theirs(images, **inputs)
        context = encoder(images, layers=(0,))
        torch.testing.assert_close(context.visible.transpose(1, 2).unflatten(2, context.grid), last)
        torch.testing.assert_close(context.hidden[0][:, 1:].transpose(1, 2).unflatten(2, context.grid), first)
    if name == 'BEiTViT':
        with pytest.raises(InputError, match=r'takes 4 x 4 patches only, got 3 x 5.*img_size'):
            encoder(torch.randn(1, 3, 48, 80))


def test_mmpretrain_models_by_name():
    with torch.device('meta'):
        mae = MMPretrainEncoder('mae_vit-base-p16_8xb512-amp-coslr-800e_in1k')
        vit = MMPretrainEncoder('vit-base-p32_in21k-pre_3rdparty_in1k-384px', img_size=448)
    assert (type(mae.encoder).__name__, mae.embed_dim, mae.depth, mae.patch_size) == ('MAEViT', 768, 12, 16)
    assert (vit.patch_size, vit.grid) == (32, (14, 14))
    assert (mae.mean, vit.mean) == ([123.675, 116.28, 103.53], [127.5] * 3)


@WRAPPED
def test_they_stand_in_the_place_of_a_vit(config):
    encoder = MODELS.build(config)
    images = torch.rand(2, 3, 64, 48) * 255
    extractor = FeatureExtractor({'backbone': config})
    assert extractor.preprocessor.mean.flatten().tolist() == pytest.approx(encoder.mean)
    assert extractor(extractor.preprocess(images)).cls.shape == (2, 32)
    model = PretrainedBackbone('random', encoder=config, out_indices=(1 / 3, 2 / 3), drop_path_rate=0.2)
    maps = model(torch.randn(2, 3, 64, 50))
    assert [m.shape for m in maps] == [(2, 32, 4, 3)] * 2
    sum(m.mean() + m.square().mean() for m in maps).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    rates = {getattr(m, 'drop_prob', 0) for m in model.backbone.blocks[2].modules() if 'DropPath' in type(m).__name__}
    assert list(rates) == pytest.approx([0.2])
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('encoder', 'name', 'message'),
    [
        (TimmEncoder, 'vit_tinny_patch16_224', 'Did you mean vit_tiny_patch16_224'),
        (TimmEncoder, 'hf-hub:timm/vit', 'has no model hf-hub:timm/vit'),
        (TimmEncoder, 'resnet18', 'resnet18 of timm has no blocks of square patch tokens'),
        (MMPretrainEncoder, 'ResNet', 'cannot make a Vision Transformer of ResNet'),
        (MMPretrainEncoder, 'mae_vit-base', r'Did you mean .*mae_vit-base-p16'),
        # Names are no paths of modules.
        *(
            (MMPretrainEncoder, name, 'mmpretrain has no backbone and no model')
            for name in (
                'os.system',
                'mmpretrain.apis.get_model',
                'RAM',
            )
        ),
    ],
)
def test_models_that_there_are_not_or_without_patches_are_refused(encoder, name, message):
    with pytest.raises(InputError, match=message):
        encoder(name)


def test_what_timm_lacks(monkeypatch):
    with pytest.raises(InputError, match='colour'):
        TimmEncoder('vit_tiny_patch16_224', colour=1)
    with pytest.raises(InputError, match=r'5 channel\(s\) and has the mean and std of 3'):
        TimmEncoder('vit_tiny_patch16_224', in_chans=5)
    monkeypatch.setattr(timm_encoder, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install "mmmim\[timm\]"'):
        TimmEncoder('vit_tiny_patch16_224')


@pytest.fixture
def messages(monkeypatch):
    lines = []
    monkeypatch.setattr('mmmim.models.backbones.wrapped.print_log', lambda text, logger: lines.append(text))
    return lines


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
def test_files_of_timm(suffix, tmp_path, messages):
    torch.manual_seed(0)
    state = timm.create_model(TIMM['name'], **TINY).state_dict()
    path = tmp_path / f'model.{suffix}'
    if suffix == 'safetensors':
        save_file(state, path)
    else:
        torch.save({'model': state}, path)
    model = PretrainedBackbone(str(path), encoder=TIMM)
    for key, value in model.backbone.encoder.state_dict().items():
        assert torch.equal(value, state[key])
    assert len(messages) == 1
    assert set(messages[0].split(': ')[1].split(', ')) == {'head.weight', 'head.bias'}
    with pytest.raises(InputError, match='leave weights out'):
        PretrainedBackbone(str(path), encoder=TIMM, weights='ema')


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_files_of_mmpretrain(prefix, tmp_path, messages):
    torch.manual_seed(0)
    theirs = MMPRETRAIN.build({'type': 'mmpretrain.VisionTransformer', 'arch': ARCH, 'img_size': 64})
    state = {prefix + key: value for key, value in theirs.state_dict().items()}
    torch.save({'state_dict': {**state, 'head.layers.head.weight': torch.ones(2)}, 'meta': {}}, tmp_path / 'a.pth')
    model = PretrainedBackbone(str(tmp_path / 'a.pth'), encoder=MMP)
    for key, value in theirs.state_dict().items():
        assert torch.equal(model.backbone.encoder.state_dict()[key], value)
    assert messages[0].endswith('not part of the encoder: head.layers.head.weight')
    wider = PretrainedBackbone(str(tmp_path / 'a.pth'), encoder={**MMP, 'img_size': 96})
    assert wider.backbone.encoder.pos_embed.shape == (1, 37, 32)


@WRAPPED
def test_files_that_do_not_fit_are_refused(config, tmp_path):
    good = MODELS.build(config).encoder.state_dict()
    name = next(key for key in good if '.2.' in key)
    path = tmp_path / 'x.pth'
    for state, message in (
        ({k: v for k, v in good.items() if k != name}, rf'1 missing \({name}\)'),
        ({**good, 'neck.weight': torch.ones(1)}, r'1 unexpected \(neck\.weight\)'),
        ({**good, name: torch.ones(7)}, rf'of another shape \({name}: \[7\]'),
        ({**good, 'epoch': 3}, 'holds other things than weights: epoch'),
        ({'mmmim': {}, 'state_dict': good}, 'a checkpoint of mmmim'),
    ):
        torch.save(state, path)
        with pytest.raises(InputError, match=message):
            PretrainedBackbone(str(path), encoder=config)
    (tmp_path / 'x.safetensors').write_bytes(b'nothing')
    with pytest.raises(InputError, match='damaged'):
        PretrainedBackbone(str(tmp_path / 'x.safetensors'), encoder=config)
    with pytest.raises(InputError, match='does not exist'):
        PretrainedBackbone(str(tmp_path / 'y.safetensors'), encoder=config)


def test_files_of_the_authors_of_dinov2(tmp_path):
    """Loaded as timm's own conversion does, without the mask token; anything else that does not fit is named."""
    name = 'vit_small_patch14_reg4_dinov2.lvd142m'
    options = {**TINY, 'img_size': 70}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **options)
    official = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    official['register_tokens'] = official.pop('reg_token')
    official['pos_embed'] = torch.randn(1, 26, 32)
    official['mask_token'] = torch.zeros(1, 32)
    torch.save(official, tmp_path / 'dinov2.pth')
    expected = timm.models.vision_transformer.checkpoint_filter_fn(dict(official), model)
    encoder = TimmEncoder(name, weights=tmp_path / 'dinov2.pth', **options)
    assert (encoder.mean, encoder.std) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    loaded = encoder.encoder.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in loaded)
    torch.save({**official, 'more': torch.zeros(1)}, tmp_path / 'more.pth')
    with pytest.raises(InputError, match=r'1 unexpected \(more\)'):
        TimmEncoder(name, weights=tmp_path / 'more.pth', **options)
    with pytest.raises(InputError, match=r'pos_embed: \[1, 2[56], 32\], the model has \[1, 1[67], 32\]'):
        TimmEncoder(name, weights=tmp_path / 'dinov2.pth', **{**options, 'img_size': 56})


@pytest.mark.parametrize('option', ['checkpoint_path', 'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay'])
def test_timm_itself_reads_and_downloads_nothing(option):
    with pytest.raises(InputError, match=rf'TimmEncoder\.{option}: timm itself would read'):
        TimmEncoder('vit_tiny_patch16_224', **TINY, **{option: {'file': 'x'}})


@WRAPPED
def test_prefixes_and_poison_in_files_of_other_libraries(config, tmp_path):
    state = MODELS.build(config).encoder.state_dict()
    for suffix, write in (('pth', torch.save), ('safetensors', save_file)):
        path = tmp_path / f'x.{suffix}'
        write({f'module.{key}': value for key, value in state.items()}, path)
        MODELS.build({**config, 'weights': str(path)})
        key = next(key for key, value in state.items() if key.endswith('bias'))
        for value, message in (
            (torch.full_like(state[key], torch.nan), 'NaN or infinite'),
            (torch.ones_like(state[key]).int(), 'integer numbers'),
        ):
            write({**state, key: value}, path)
            with pytest.raises(InputError, match=rf'x\.{suffix} holds wrong values: .*{message}'):
                MODELS.build({**config, 'weights': str(path)})
