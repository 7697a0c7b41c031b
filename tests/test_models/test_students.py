"""Encoders of other libraries as students: what they make of masked images, and a step of every method with them."""

import re
from dataclasses import replace

import pytest
import timm
import torch
from mmengine import Config
from safetensors.torch import save_file

import mmmim
from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.models import HuggingFaceEncoder, MMPretrainEncoder, TimmEncoder
from mmmim.models.layers import pick_patches, unpatchify
from mmmim.registry import MODELS
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.registered import scrambled
from tests.shrink import shrink, write_images
from tests.toys import jittered, random_mask

pytest.importorskip('transformers')

GRID, SIDE = (4, 4), 32
TIMM = dict(type='mmmim.TimmEncoder', embed_dim=32, depth=3, num_heads=2, img_size=SIDE, patch_size=8)
VIT = dict(TIMM, name='vit_tiny_patch16_224')
MMP = dict(
    type='mmmim.MMPretrainEncoder',
    arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64),
    img_size=SIDE,
    patch_size=8,
)
HF = dict(
    type='mmmim.HuggingFaceEncoder',
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=SIDE,
    patch_size=8,
)
WIDE = dict(HF, intermediate_size=64)
BEIT = dict(WIDE, use_mean_pooling=False, drop_path_rate=0.0)
#: That can leave out patches.
STUDENTS = {
    'timm': VIT,
    'timm, registers': dict(TIMM, name='vit_small_patch14_reg4_dinov2'),
    'timm, norm before': dict(TIMM, name='vit_base_patch16_clip_224'),
    'timm, distilled': dict(TIMM, name='deit_tiny_distilled_patch16_224'),
    'timm, no CLS': dict(VIT, class_token=False, global_pool='avg', fc_norm=False),
    'mmpretrain': dict(MMP, name='VisionTransformer'),
    'mmpretrain, MAE': dict(MMP, name='MAEViT'),
    'mmpretrain, DeiT III': dict(MMP, name='DeiT3'),
    'vit': dict(WIDE, name='vit'),
    'deit': dict(WIDE, name='deit'),
    'msn': dict(WIDE, name='vit_msn'),
    'mae': dict(WIDE, name='vit_mae'),
    'ijepa': dict(WIDE, name='ijepa'),
    'beit': dict(BEIT, name='beit', use_absolute_position_embeddings=True),
    'dinov2': dict(HF, name='dinov2'),
    'dinov2, registers': dict(HF, name='dinov2_with_registers', num_register_tokens=3),
}
#: That cannot, and what the reason says.
WHOLE = {
    'timm, EVA': (dict(TIMM, name='eva02_tiny_patch14_224'), 'Eva cannot leave out masked patches: it is no Vision'),
    'timm, BEiT': (dict(TIMM, name='beit_base_patch16_224'), 'Beit cannot leave out masked patches: it is no Vision'),
    'mmpretrain, BEiT': (dict(MMP, name='BEiTViT'), 'BEiTViT cannot leave out .* positions are relative'),
    'mmpretrain, EVA': (dict(MMP, name='ViTEVA02'), 'ViTEVA02 cannot leave out .* of mmpretrain only BEiTViT, DeiT3'),
    'beit': (dict(BEIT, name='beit', use_relative_position_bias=True), 'BeitModel cannot .* positions are relative'),
    'data2vec': (
        dict(BEIT, name='data2vec-vision', use_shared_relative_position_bias=True),
        'Data2VecVisionModel cannot .* positions are relative',
    ),
    'dinov3': (dict(WIDE, name='dinov3_vit'), 'DINOv3ViTModel cannot .* positions are rotary'),
}


def built(config, **more):
    return scrambled(MODELS.build({**config, **more}))


def pictures(number=2, side=SIDE):
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(0))


def all_tokens(context):
    return torch.cat([context.extra, context.visible], dim=1)


@pytest.mark.parametrize('name', STUDENTS)
def test_with_all_patches_visible_it_is_the_librarys_own_forward(name):
    encoder, images = built(STUDENTS[name]), pictures()
    mask = random_mask(2, visible=6, predict=3, grid=GRID).of_all
    context, whole = encoder(images, mask, layers=(0, -1)), encoder(images, layers=(0, -1))
    assert torch.equal(all_tokens(context), all_tokens(whole))
    assert all(torch.equal(a, b) for a, b in zip(context.hidden, whole.hidden, strict=True))
    if isinstance(encoder, TimmEncoder):
        assert torch.equal(all_tokens(context), encoder.encoder.forward_features(images))
    if isinstance(encoder, HuggingFaceEncoder) and name != 'mae':
        assert torch.equal(all_tokens(context), encoder.encoder(images).last_hidden_state)


@pytest.mark.parametrize('per_image', [1, 2])
@pytest.mark.parametrize('name', STUDENTS)
def test_what_is_hidden_is_not_seen_and_what_is_visible_is(name, per_image):
    encoder, images = built(STUDENTS[name]), pictures()
    mask = random_mask(2, visible=6, predict=3, per_image=per_image, grid=GRID)
    context = encoder(images, mask, layers=(1,))
    assert context.visible.shape == (2 * per_image, 6, 32)
    assert context.hidden[0].shape == (2 * per_image, encoder.num_extra_tokens + 6, 32)
    for g, image in enumerate(mask.image_index.tolist()):
        pixels = torch.zeros(16, dtype=torch.bool).index_fill(0, mask.visible[g], True).view(4, 4)
        pixels = pixels.repeat_interleave(8, 0).repeat_interleave(8, 1)
        for seen, change in ((pixels, False), (~pixels, True)):
            other = images.clone()
            other[image] = torch.where(seen, other[image], other[image] + 1.0)
            same = torch.equal(all_tokens(encoder(other, mask))[g], all_tokens(context)[g])
            assert same != change
    # The places of patches are known: another order of the same ones is the same set of tokens.
    order = torch.arange(5, -1, -1)
    turned = encoder(images, replace(mask, visible=mask.visible[:, order]))
    torch.testing.assert_close(turned.visible, context.visible[:, order], rtol=1e-4, atol=1e-5)
    elsewhere = encoder(images, replace(mask, visible=(mask.visible + 1) % 16))
    assert not torch.allclose(elsewhere.visible, context.visible, atol=1e-2)


def test_visible_patches_of_timm_by_hand():
    """At another image size, with registers: positions are interpolated, then tokens are picked."""
    encoder, images = built(STUDENTS['timm, registers']), pictures(side=48)
    mask = random_mask(2, visible=7, predict=3, per_image=2, grid=(6, 6))
    theirs = encoder.encoder
    with torch.no_grad():
        tokens = theirs._pos_embed(theirs.patch_embed(images))
        extra, patches = tokens[:, :5], tokens[:, 5:]
        rows = [torch.cat([extra[i], patches[i, mask.visible[g]]]) for g, i in enumerate(mask.image_index.tolist())]
        expected = theirs.norm(theirs.blocks(torch.stack(rows)))
        torch.testing.assert_close(all_tokens(encoder(images, mask)), expected)


def test_visible_patches_of_transformers_by_hand():
    encoder, images = built(STUDENTS['vit']), pictures()
    mask = random_mask(2, visible=7, predict=3, grid=GRID)
    theirs = encoder.encoder
    with torch.no_grad():
        tokens = theirs.embeddings(images)
        x = torch.cat([tokens[:, :1], gather_patches(tokens[:, 1:], mask.visible)], dim=1)
        for block in encoder.blocks:
            x = block(x)
        torch.testing.assert_close(all_tokens(encoder(images, mask)), theirs.layernorm(x))


def test_visible_patches_of_mmpretrain_by_hand():
    encoder, images = built(STUDENTS['mmpretrain']), pictures()
    mask = random_mask(2, visible=7, predict=3, grid=GRID)
    theirs = encoder.encoder
    with torch.no_grad():
        tokens = torch.cat([theirs.cls_token.expand(2, -1, -1), theirs.patch_embed(images)[0]], dim=1)
        tokens = tokens + theirs.pos_embed
        x = torch.cat([tokens[:, :1], gather_patches(tokens[:, 1:], mask.visible)], dim=1)
        for block in theirs.layers:
            x = block(x)
        torch.testing.assert_close(all_tokens(encoder(images, mask)), theirs.ln1(x))


@pytest.mark.parametrize('name', ['timm', 'mmpretrain', 'vit'])
def test_patches_apart_from_each_other(name):
    """Latent MIM's: the image of a mask is that of its patches, put together."""
    encoder, images = built(STUDENTS[name]), pictures(side=40)
    mask = jittered(random_mask(2, visible=6, predict=3, per_image=2, grid=GRID), gap=2)
    together = unpatchify(pick_patches(images, 8, mask.of_all.visible, mask), GRID)
    expected = encoder(together, replace(mask, image_index=torch.arange(4), offsets=None))
    assert torch.equal(all_tokens(encoder(images, mask)), all_tokens(expected))
    moved = replace(mask, offsets=2 - mask.offsets)
    assert not torch.allclose(all_tokens(encoder(images, moved)), all_tokens(expected), atol=1e-2)


@pytest.mark.parametrize('name', WHOLE)
def test_models_that_need_all_patches_say_why(name):
    config, message = WHOLE[name]
    encoder, mask = built(config), random_mask(2, visible=6, predict=3, grid=GRID)
    with pytest.raises(InputError, match=message):
        encoder(pictures(), mask)
    assert encoder(pictures()).visible.shape == (2, 16, 32)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type=VIT['type'], name='vit_base_mci_224', img_size=SIDE, depth=1), 'by a .*, which sees more than one'),
        (dict(VIT, patch_drop_rate=0.5), 'with patch_drop_rate it leaves out patches itself'),
        (dict(MMP, name='VisionTransformer', patch_cfg=dict(stride=4)), 'its patches overlap'),
    ],
)
@pytest.mark.parametrize('fused', [False, True])
def test_patches_that_are_not_apart_are_never_masked(config, message, fused):
    encoder = MODELS.build({**config, 'fused': fused}).eval()
    with pytest.raises(InputError, match=message):
        encoder(pictures(), random_mask(2, visible=6, predict=3, grid=GRID))


@pytest.mark.parametrize('name', [*STUDENTS, *WHOLE])
def test_mask_tokens_stand_for_what_is_hidden(name):
    config = STUDENTS[name] if name in STUDENTS else WHOLE[name][0]
    encoder, images = built(config, fused=True), pictures()
    mask = random_mask(2, visible=6, predict=3, per_image=2, grid=GRID)
    context = encoder(images, mask)
    assert context.visible.shape == (4, 16, 32)
    # The mask token is an embedded patch: where that of black pixels is its value, black pixels are masked ones.
    with torch.no_grad():
        zero = encoder.patch_embedding(torch.zeros(1, 3, SIDE, SIDE))
        zero = zero[0] if isinstance(zero, tuple) else zero
        zero = zero.flatten(2).transpose(1, 2) if zero.shape[1] == 32 else zero.flatten(1, -2)
        encoder.mask_token.copy_(zero[0, :1])
    pixels = torch.zeros(4, 16, dtype=torch.bool).scatter(1, mask.visible, True).view(4, 1, 4, 4)
    pixels = pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)
    expected = encoder(images[mask.image_index] * pixels)
    torch.testing.assert_close(all_tokens(encoder(images, mask)), all_tokens(expected), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(all_tokens(context), all_tokens(expected), atol=1e-2)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('name', ['timm', 'mmpretrain', 'vit', 'mae', 'dinov2, registers'])
def test_everything_that_is_trained_gets_a_gradient(name, fused):
    encoder = built(STUDENTS[name], fused=fused).train()
    context = encoder(pictures(), random_mask(2, visible=6, predict=3, grid=GRID))
    all_tokens(context).square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def test_depth_counts_from_one():
    with pytest.raises(InputError, match='no state before its first block'):
        built(VIT)(pictures(), depth=0)


# ----------------------------------------------------------------------------------------------------- pre-training

STATISTICS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
STUDENT = dict(
    type='mmmim.TimmEncoder',
    name='vit_tiny_patch16_224',
    img_size=32,
    patch_size=4,
    embed_dim=48,
    depth=2,
    num_heads=2,
    **STATISTICS,
)
#: What a model of timm needs for a method, beside its size.
METHODS = {
    'mae/small': {},
    'pixmim/small': {},
    'mff/small': {},
    'crossmae/small': dict(final_norm=False),
    'ijepa/small': dict(class_token=False, global_pool='avg', fc_norm=False),
    'latent_mim/small': {},
    'pilamim/small': {},
    'capi/small': dict(class_token=False, global_pool='avg', fc_norm=False, reg_tokens=4),
    'beit/small': dict(fused=True),
    'maskfeat/small': dict(fused=True),
    'simmim/small': dict(fused=True),
    'conmim/small': dict(fused=True),
    'distillation/small': dict(fused=True),
    'distillation/milan_small': {},
}


def small(method, folder, **student):
    """A config of a method, with a student of timm."""
    write_images(folder / 'images')
    cfg = shrink(Config.fromfile(ROOT / f'configs/{method}.py'), folder / 'images', folder / 'work')
    cfg.model.backbone = student if 'type' in student else {**STUDENT, **student}
    if method == 'capi/small':  # rules name parameters of the encoder
        for rule, part in (('patch_bias', 'bias'), ('patch_weight', 'weight')):
            cfg.optim_wrapper.paramwise_cfg.rules[rule].match = rf'patch_embed\.proj\.{part}$'
    cfg.experiment_name = f'student_{method.replace("/", "_")}_{folder.name}'
    return cfg


@pytest.mark.parametrize('name', METHODS)
def test_every_method_takes_a_step(name, tmp_path):
    cfg = small(name, tmp_path, **METHODS[name])
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.backbone.named_parameters()}
    runner.train()
    for key, value in runner.model.backbone.named_parameters():
        assert torch.equal(value, before[key]) != value.requires_grad, key
    extractor = mmmim.get_model(tmp_path / 'work/iter_1.pth', weights='student')
    assert isinstance(extractor.backbone, TimmEncoder)
    for key, value in extractor.backbone.state_dict().items():
        assert torch.equal(value, runner.model.backbone.state_dict()[key]), key


def test_a_student_starts_from_a_file_and_its_checkpoint_names_none(tmp_path):
    torch.manual_seed(0)
    sizes = {key: STUDENT[key] for key in ('img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads')}
    state = timm.create_model(STUDENT['name'], num_classes=0, **sizes).state_dict()
    save_file(state, tmp_path / 'vit.safetensors')
    cfg = small('ijepa/small', tmp_path, weights=str(tmp_path / 'vit.safetensors'))
    runner = Runner.from_cfg(cfg)
    for encoder in (runner.model.backbone, runner.model.teacher.backbone):
        assert all(torch.equal(value, state[key]) for key, value in encoder.encoder.state_dict().items())
    runner.train()
    (tmp_path / 'vit.safetensors').unlink()
    stored = torch.load(tmp_path / 'work/iter_1.pth', weights_only=True)['mmmim']['model']['backbone']
    assert 'weights' not in stored
    assert stored['name'] == STUDENT['name']
    assert mmmim.get_model(tmp_path / 'work/iter_1.pth').backbone.depth == 2


@pytest.mark.parametrize(
    ('name', 'student', 'message'),
    [
        ('maskfeat/small', {}, 'tokens of an encoder with mask tokens only: set model.backbone.fused=True'),
        ('semantic_mim/beit_small', {}, 'encoders of other libraries tell none: use mmmim.ViT, or a neck with'),
        (
            'data2vec/small',
            dict(fused=True),
            'LatentTarget.layers: TimmEncoder has no mean of the states of',
        ),
        (
            'data2vec2/small',
            dict(final_norm=False),
            'LatentTarget.layers: TimmEncoder has no mean of the states',
        ),
        ('beitv2/small', dict(fused=True), 'PatchAggregation needs an encoder that gives .* as mmmim.ViT does'),
        ('mae/small', dict(mean=None, std=None), r'backbone.mean is \[127.5, 127.5, 127.5\] and .*\[123.675, 116.28'),
        ('mae/small', dict(embed_dim=64), r'neck.context_dim is 48 and model.backbone.embed_dim is 64'),
        ('mae/small', dict(patch_size=8), 'patch_size is 4 and model.backbone.patch_size is 8'),
        (
            'mae/small',
            dict(type=TIMM['type'], name='swin_tiny_patch4_window7_224'),
            'swin_tiny.* has no blocks of square',
        ),
        (
            'maskfeat/small',
            dict(type=TIMM['type'], name='convnext_tiny'),
            'convnext_tiny of timm has no blocks of square',
        ),
    ],
)
def test_what_does_not_go_together_is_named(name, student, message, tmp_path):
    cfg = small(name, tmp_path, **student)
    with pytest.raises(InputError, match=message):
        Runner.from_cfg(cfg).train()


def test_blocks_of_other_libraries_recompute_nothing(tmp_path):
    cfg = small('mae/small', tmp_path)
    cfg.model.activation_checkpointing = 'full'
    with pytest.raises(InputError, match=r'activation_checkpointing.*leave it out'):
        Runner.from_cfg(cfg)


def test_what_the_page_shows(tmp_path):
    config, rules, _ = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/en/students.md').read_text(), re.DOTALL)
    (tmp_path / 'config.py').write_text(config)
    with torch.device('meta'):
        model = MODELS.build(load_config(str(tmp_path / 'config.py')).model)
    assert isinstance(model.backbone, TimmEncoder)
    names = [name for name, _ in model.named_parameters()]
    shown = dict(re.findall(r"^(\w+) = dict\(match=r'(.*?)'", rules, re.MULTILINE))
    assert [name for name in names if re.search(shown['patch_bias'], name)] == [
        'backbone.encoder.patch_embed.proj.bias'
    ]
    assert len([name for name in names if re.search(shown['patch_weight'], name)]) == 1
    for student in STUDENTS.values():
        encoder = MODELS.build(student)
        norms = [f'{name}.weight' for name, part in encoder.named_modules() if isinstance(part, torch.nn.LayerNorm)]
        assert len(norms) >= 6
        assert [name for name in norms if not re.search(shown['no_decay'], f'backbone.{name}')] == []


def test_a_class_of_mmpretrain_is_a_student_by_its_name():
    encoder = MMPretrainEncoder('VisionTransformer', arch=MMP['arch'], img_size=SIDE, patch_size=8)
    assert encoder.needs_all == encoder.mixes == ''
