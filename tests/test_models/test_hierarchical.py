"""Hierarchical encoders as students: what Swin Transformers and ConvNeXts make of masked images."""

import re

import pytest
import torch
from mmengine import Config
from safetensors.torch import save_file

import mmmim
from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.export.formats import export
from mmmim.features import FeatureExtractor
from mmmim.features.attention_maps import attention_maps
from mmmim.models import HierarchicalEncoder
from mmmim.models.backbones.libraries import encoder_config
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.registered import scrambled
from tests.shrink import shrink, write_images
from tests.toys import random_mask

GRID = (4, 4)
TYPE = 'mmmim.HierarchicalEncoder'
SWIN = dict(
    type=TYPE, img_size=128, window_size=2, embed_dim=4, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 2), fused=True
)
CONV = dict(type=TYPE, img_size=128, depths=(1, 1, 1, 2), dims=(8, 8, 8, 16), ls_init_value=0.5, fused=True)
ARCH = dict(embed_dims=8, depths=[1, 2], num_heads=[1, 2])
MMP = dict(type=TYPE, img_size=32, window_size=2, fused=True)
MMP_CONV = dict(
    type=TYPE, name='mmpretrain:ConvNeXt', img_size=32, arch=dict(depths=[1, 2], channels=[8, 16]), fused=True,
    layer_scale_init_value=0.5,
)  # fmt: skip
STUDENTS = {
    'timm, Swin': dict(SWIN, name='timm:swin_tiny_patch4_window7_224'),
    'timm, Swin v2': dict(SWIN, name='timm:swinv2_tiny_window8_256'),
    'timm, ConvNeXt': dict(CONV, name='timm:convnext_atto'),
    'timm, ConvNeXt v2': dict(CONV, name='timm:convnextv2_atto', head_norm_first=True),
    'mmpretrain, Swin': dict(MMP, name='mmpretrain:SwinTransformer', arch=ARCH),
    'mmpretrain, Swin v2': dict(MMP, name='mmpretrain:SwinTransformerV2', arch=dict(ARCH, extra_norm_every_n_blocks=0)),
    'mmpretrain, ConvNeXt': dict(MMP_CONV, gap_before_final_norm=False),
    'mmpretrain, norm of what is pooled': MMP_CONV,
}


def built(config, **more):
    torch.manual_seed(0)
    return scrambled(MODELS.build({**config, **more}), std=0.1)


def pictures(encoder, number=2):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(number, 3, *(side * encoder.patch_size for side in encoder.grid), generator=rng)


def as_tokens(maps, channels_first):
    return maps.flatten(2).transpose(1, 2) if channels_first else maps.flatten(1, -2)


def shown(mask, side):
    """Whether pixels are those of visible patches, ``[G, 1, H, W]``."""
    seen = torch.zeros(mask.num_masks, 16, dtype=torch.bool).scatter(1, mask.visible, True).view(-1, 1, *mask.grid)
    return seen.repeat_interleave(side, 2).repeat_interleave(side, 3)


@pytest.mark.parametrize('name', STUDENTS)
def test_without_a_mask_it_is_the_librarys_own_forward(name):
    encoder = built(STUDENTS[name])
    images = pictures(encoder)
    context, whole = encoder(images), encoder(images, random_mask(2, visible=6, predict=3, grid=GRID).of_all)
    if name.startswith('timm'):
        expected = as_tokens(encoder.encoder.forward_features(images), 'ConvNeXt' in name)
    elif 'pooled' in name:
        # mmpretrain gives the norm of the average of what comes out here.
        pooled = encoder(images).visible.transpose(1, 2).unflatten(2, GRID).mean([2, 3], keepdim=True)
        assert torch.equal(encoder.encoder.norm1(pooled).flatten(1), encoder.encoder(images)[0])
        expected = context.visible
    else:
        expected = as_tokens(encoder.encoder(images)[0], True)
    assert encoder.grid == context.grid == GRID
    assert torch.equal(context.visible, expected)
    assert torch.equal(whole.visible, expected)
    assert context.extra.shape == (2, 0, encoder.embed_dim)


@pytest.mark.parametrize('name', STUDENTS)
def test_mask_tokens_stand_for_what_is_hidden(name):
    encoder = built(STUDENTS[name])
    images, mask = pictures(encoder), random_mask(2, visible=6, predict=3, per_image=2, grid=GRID)
    context, pixels = encoder(images, mask, layers=(0, 1)), shown(mask, encoder.patch_size)
    assert context.visible.shape == context.hidden[0].shape == (4, 16, encoder.embed_dim)
    own = images[mask.image_index]
    for g in range(4):
        for where, change in ((~pixels[g], False), (pixels[g], True)):
            other = images.clone()
            other[g // 2] = torch.where(where, own[g] + 1.0, own[g])
            assert torch.equal(encoder(other, mask).visible[g], context.visible[g]) != change
    # Where the stem makes the mask token of black pixels, black pixels are masked ones.
    with torch.no_grad():
        zero = encoder.patch_embedding(torch.zeros_like(images[:1]))
        zero = zero[0] if isinstance(zero, tuple) else zero
        encoder.mask_token.copy_(as_tokens(zero, encoder.channels_first)[0, :1])
    assert torch.equal(encoder(images, mask).visible, encoder(own * pixels).visible)
    assert not torch.allclose(encoder(images, mask).visible, context.visible, atol=1e-3)


@pytest.mark.parametrize('name', STUDENTS)
def test_everything_that_is_trained_gets_a_gradient(name):
    encoder = built(STUDENTS[name]).train()
    encoder(pictures(encoder), random_mask(2, visible=6, predict=3, grid=GRID)).visible.square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


@pytest.mark.parametrize('name', STUDENTS)
def test_nothing_reads_a_tensor_on_the_host(name, monkeypatch):
    encoder = built(STUDENTS[name]).train()
    images, mask = pictures(encoder), random_mask(2, visible=6, predict=3, per_image=2, grid=GRID)

    def refuse(*args, **kwargs):
        raise AssertionError('host sync')

    with monkeypatch.context() as patch:
        for read in ('item', 'tolist', '__bool__', '__float__', '__int__', '__index__', 'numpy', 'cpu', 'nonzero'):
            patch.setattr(torch.Tensor, read, refuse)
        encoder(images, mask).visible.mean().backward()


@pytest.mark.parametrize('name', ['timm, Swin', 'timm, ConvNeXt', 'mmpretrain, Swin', 'mmpretrain, ConvNeXt'])
def test_files_of_the_library_are_loaded_strictly(name, tmp_path):
    first, prefix = built(STUDENTS[name], fused=False), 'backbone.' if name.startswith('mm') else ''
    state = {f'{prefix}{key}': value.clone() for key, value in first.encoder.state_dict().items()}
    head = {'head.fc.weight': torch.zeros(5, first.embed_dim), 'head.norm.weight': torch.zeros(first.embed_dim)}
    save_file(state | head, tmp_path / 'whole.safetensors')
    encoder = MODELS.build({**STUDENTS[name], 'weights': tmp_path / 'whole.safetensors'}).eval()
    assert torch.equal(encoder(pictures(encoder)).visible, first(pictures(first)).visible)
    lost = next(key for key in state if 'blocks.0' in key or 'stages.0' in key)
    for wrong in (
        {key: value for key, value in state.items() if key != lost},
        state | {f'{prefix}more': torch.ones(1)},
    ):
        save_file(wrong, tmp_path / 'wrong.safetensors')
        with pytest.raises(InputError, match=r'missing|unexpected'):
            MODELS.build({**STUDENTS[name], 'weights': tmp_path / 'wrong.safetensors'})


@pytest.mark.parametrize(
    ('word', 'kind'),
    [
        ('timm:swin_tiny_patch4_window7_224', 'HierarchicalEncoder'),
        ('timm:convnextv2_atto', 'HierarchicalEncoder'),
        ('mmpretrain:SwinTransformer', 'HierarchicalEncoder'),
        ('mmpretrain:convnext-tiny_32xb128_in1k', 'HierarchicalEncoder'),
        ('timm:vit_tiny_patch16_224', 'TimmEncoder'),
        ('mmpretrain:VisionTransformer', 'MMPretrainEncoder'),
    ],
)
def test_a_word_names_the_encoder(word, kind):
    config = encoder_config(word)
    assert config['type'] == f'mmmim.{kind}'
    with torch.device('meta'):
        encoder = MODELS.build(config)
    assert encoder.grid[0] * encoder.patch_size == 224
    assert encoder.mean == pytest.approx([127.5] * 3 if 'vit' in word else [123.675, 116.28, 103.53])


@pytest.mark.parametrize('name', STUDENTS)
def test_layers_of_parameters_ascend(name):
    encoder = built(STUDENTS[name])
    layers = [
        encoder.get_layer_depth(f'x.{key}', 'x.') for key, _ in encoder.encoder.named_parameters(prefix='encoder')
    ]
    numbers = [layer for layer, _ in layers]
    total = 8 if name == 'mmpretrain, ConvNeXt' or 'pooled' in name else sum(STUDENTS[name].get('depths', (1, 2))) + 2
    assert {number for _, number in layers} == {total}
    assert numbers[0] == 0
    if total != 8:  # mmpretrain counts blocks of ConvNeXt as its authors do
        assert set(numbers) >= set(range(total - 1))
        assert (
            encoder.get_layer_depth('x.mask_token', 'x.') == encoder.get_layer_depth('head.proj') == (total - 1, total)
        )
    merging = {
        'timm, Swin': 'layers.3.downsample.reduction.weight',
        'mmpretrain, Swin': 'stages.0.downsample.norm.bias',
    }
    if name in merging:
        assert encoder.get_layer_depth(f'x.encoder.{merging[name]}', 'x.')[0] == total - 4


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(name='swin_tiny_patch4_window7_224'), 'write timm:NAME or mmpretrain:NAME'),
        (dict(name='timm:vit_tiny_patch16_224'), 'is a VisionTransformer, and .* use mmmim.TimmEncoder'),
        (dict(name='mmpretrain:VisionTransformer'), 'is a VisionTransformer, and .* use mmmim.MMPretrainEncoder'),
        (dict(name='timm:swin_tinny_patch4_window7_224'), 'Did you mean swin_tiny_patch4_window7_224'),
        (
            dict(name='timm:swin_tiny_patch4_window7_224', pretrained=True),
            'HierarchicalEncoder.pretrained: timm itself',
        ),
        (
            dict(STUDENTS['timm, Swin'], img_size=192, window_size=7),
            r'192 x 192 pixels have 48 x 48 tokens in stage 0 .*, no multiple of its windows of 7 x 7: set img_size',
        ),
        (
            dict(STUDENTS['mmpretrain, Swin'], window_size=8),
            r'4 x 4 tokens in stage 1 .* fewer than its windows of 8 x 8: .* a multiple of 64, .* pad_small_map=True',
        ),
        (dict(STUDENTS['timm, ConvNeXt'], img_size=100), 'patch size 32 does not divide an image of 100 x 100'),
        (dict(STUDENTS['timm, Swin'], mean=[0.5]), r'3 channel\(s\) and has the mean and std of 1'),
    ],
)
def test_what_cannot_be_built_is_named(config, message):
    with pytest.raises(InputError, match=message):
        MODELS.build({'type': TYPE, **config})


def test_images_and_masks_that_do_not_fit_are_named():
    encoder = built(STUDENTS['mmpretrain, Swin'], pad_small_map=True, window_size=8)
    assert encoder(pictures(encoder)).visible.shape == (2, 16, 16)
    encoder, mask = built(STUDENTS['mmpretrain, Swin'], fused=False), random_mask(2, visible=6, predict=3, grid=GRID)
    with pytest.raises(
        InputError, match=r'SwinTransformer cannot leave out masked patches: it is hierarchical.*fused=True'
    ):
        encoder(pictures(encoder), mask)
    with pytest.raises(InputError, match=r'Images of 8 x 32 pixels have 1 x 4 tokens in stage 1 .* fewer than'):
        encoder(pictures(encoder)[:, :, :8])
    assert encoder(pictures(encoder).repeat(1, 1, 2, 1)).grid == (8, 4)
    with pytest.raises(InputError, match='blocks of SwinTransformer have no self-attention of their own'):
        attention_maps(encoder, pictures(encoder), [0])
    overlapping = built(STUDENTS['timm, ConvNeXt'], stem_type='overlap')
    with pytest.raises(InputError, match='its stem is a convolution of 3 pixels, which sees more than one at once'):
        overlapping(pictures(overlapping), mask)


@pytest.mark.parametrize('name', ['timm, ConvNeXt', pytest.param('timm, Swin', marks=pytest.mark.slow)])
def test_programs_are_of_all_sizes_or_of_one(name, tmp_path):
    extractor = FeatureExtractor({'backbone': STUDENTS[name]}, source='')
    words = export(extractor, tmp_path / 'program.pt2', 'torch-export')
    program = torch.export.load(tmp_path / 'program.pt2').module()
    assert ('of 128 x 128 pixels' if 'Swin' in name else 'multiples of 32 pixels') in words
    for side in (128,) if 'Swin' in name else (128, 96):
        images = torch.randn(3, 3, 128, side, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(program(images)['patches'], extractor(images)[-1].patches)


def test_what_has_no_graph_is_refused_by_name(tmp_path):
    extractor = FeatureExtractor({'backbone': STUDENTS['mmpretrain, Swin']}, source='')
    with pytest.raises(InputError, match=r"no graph of a SwinTransformer: mmpretrain's windows count on one number"):
        export(extractor, tmp_path / 'program.pt2', 'torch-export')


# ----------------------------------------------------------------------------------------------------- pre-training

SIDE = 64
SMALL = {
    'timm, Swin': dict(STUDENTS['timm, Swin'], img_size=SIDE, window_size=2),
    'timm, ConvNeXt': dict(STUDENTS['timm, ConvNeXt'], img_size=SIDE),
}


def method(name, student, folder):
    """A method of pixels with a student whose patches have 32 pixels, on images of 2 x 2 patches."""
    write_images(folder / 'images')
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}/small.py'), folder / 'images', folder / 'work')
    width = MODELS.build(student).embed_dim
    cfg.model.backbone = student
    cfg.model.branches.pixels.target_generator.patch_size = 32
    neck = cfg.model.branches.pixels.neck
    neck.update(context_dim=width)
    neck.get('neck', neck).update(context_dim=width, out_dim=3 * 32**2)
    if 'grid' in neck.get('neck', neck):
        neck.get('neck', neck).grid = (2, 2)
    cfg.train_dataloader.collate_fn = dict(
        type='mmmim.MaskCollate', patch_size=32, masking=dict(type='mmmim.UniformMasking', num_visible=1)
    )
    cfg.train_dataloader.dataset.dataset.pipeline[1].scale = SIDE
    cfg.experiment_name = f'hierarchical_{folder.name}'
    return cfg


@pytest.mark.parametrize('name', SMALL)
def test_simmim_takes_a_step(name, tmp_path):
    cfg = method('simmim', SMALL[name], tmp_path)
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.backbone.named_parameters()}
    runner.train()
    for key, value in runner.model.backbone.named_parameters():
        assert not torch.equal(value, before[key]), key
    extractor = mmmim.get_model(tmp_path / 'work/iter_1.pth')
    assert isinstance(extractor.backbone, HierarchicalEncoder)
    for key, value in extractor.backbone.state_dict().items():
        assert torch.equal(value, runner.model.backbone.state_dict()[key]), key
    images = torch.randint(0, 256, (2, 3, SIDE, 2 * SIDE), dtype=torch.uint8)
    features = extractor(extractor.preprocess(images))
    assert features[-1].patches.shape == (2, 8, extractor.backbone.embed_dim)
    assert torch.equal(features.pooled, features[-1].patches.mean(1))


@pytest.mark.parametrize(
    ('name', 'fused', 'message'),
    [
        ('simmim', False, 'SwinTransformer cannot leave out masked patches: it is hierarchical'),
        ('mae', False, 'SwinTransformer cannot leave out masked patches: it is hierarchical'),
        ('mae', True, 'A neck predicts from visible patches alone, and the encoder has mask tokens'),
        ('mff', True, 'A neck predicts from visible patches alone, and the encoder has mask tokens'),
        ('crossmae', True, 'A neck predicts from visible patches alone, and the encoder has mask tokens'),
    ],
)
def test_methods_that_leave_patches_out_are_refused(name, fused, message, tmp_path):
    cfg = method(name, {**SMALL['timm, Swin'], 'fused': fused}, tmp_path)
    with pytest.raises(InputError, match=message):
        Runner.from_cfg(cfg).train()


def test_what_the_page_shows(tmp_path):
    *_, shown = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/en/students.md').read_text(), re.DOTALL)
    (tmp_path / 'config.py').write_text(shown)
    cfg = load_config(str(tmp_path / 'config.py'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert (model.backbone.grid, model.backbone.embed_dim, model.backbone.depth) == ((6, 6), 1024, 3)
    rule = cfg.optim_wrapper.paramwise_cfg.rules.no_decay.match
    for student in STUDENTS.values():
        for key, parameter in MODELS.build(student).named_parameters(prefix='backbone'):
            kept = parameter.ndim == 1 or key.endswith(('bias_table', 'mask_token'))
            assert bool(re.search(rule, key)) == kept, key
