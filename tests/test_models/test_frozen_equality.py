"""EVA in MAE's style and MILAN are mmpretrain's: targets of CLIP, masks, predictions, losses, gradients."""

import re

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models.selfsup.milan import CLIPGenerator
from mmpretrain.models.utils.clip_generator_helper import CLIP
from mmpretrain.registry import MODELS as THEIRS
from torch.testing import assert_close

from mmmim.converters.mae import convert_checkpoint
from mmmim.features import FrozenTarget
from mmmim.models import PromptingDecoder
from mmmim.models.functional import draw_by_importance
from mmmim.registry import MODELS
from mmmim.structures import PatchMask

IMG, PATCH, GRID, WIDTH, PROJECTED, IMAGES = 32, 8, (4, 4), 64, 24, 3
DIM, DECODER_DIM, HEADS, DECODER_HEADS, DEPTH = 32, 24, 2, 3, 2
CLIP_OF_TIMM = dict(
    type='mmmim.TimmEncoder', name='vit_base_patch16_clip_quickgelu_224', img_size=IMG, patch_size=PATCH,
    embed_dim=WIDTH, depth=2, num_heads=1, num_classes=PROJECTED,
)  # fmt: skip


@pytest.fixture
def clip_file(tmp_path):
    """A small CLIP in its authors' layout, as OpenMMLab and the authors publish it, its encoder of texts included."""
    torch.manual_seed(0)
    clip = CLIP(PROJECTED, IMG, 2, WIDTH, PATCH, 5, 7, 64, 1, 1)
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = clip.state_dict()
    torch.save({**state, 'input_resolution': torch.tensor(IMG), 'vocab_size': torch.tensor(7)}, tmp_path / 'clip.pth')
    return str(tmp_path / 'clip.pth')


def frozen(file, **options):
    generator = FrozenTarget(
        checkpoint=file, encoder=CLIP_OF_TIMM, in_dim=PROJECTED, projected=True, statistics='student', **options
    )
    return generator.train()


def images(seed=0):
    return torch.randn(IMAGES, 3, IMG, IMG, generator=torch.Generator().manual_seed(seed))


def all_patches(visible=4):
    order = torch.arange(16).expand(IMAGES, -1)
    return PatchMask(order[:, :visible], order.unsqueeze(1), torch.arange(IMAGES), GRID)


def close(found, expected):
    assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_targets_are_those_of_clip(clip_file):
    tokens, attention = CLIPGenerator(clip_file)(images())
    generator = frozen(clip_file, masks='importance')
    target = generator(images(), all_patches(), None, None)
    close(torch.cat([target.cls[:, None], target.patches], dim=1), tokens)
    _, weights = generator._look(images(), GRID)
    close(torch.cat(weights), attention[:, 0, 1:])
    assert tokens.std() > 0.05


def test_masks_are_drawn_as_milan_draws_them(clip_file):
    generator = frozen(clip_file, masks='importance')
    _, attention = CLIPGenerator(clip_file)(images())
    torch.manual_seed(5)
    mask = generator.mask(images(), all_patches())
    torch.manual_seed(5)
    order = torch.multinomial(attention[:, 0, 1:], 16, replacement=False)
    assert torch.equal(mask.visible, order[:, :4])
    assert torch.equal(mask.predict[:, 0], order)


def test_draws_follow_the_weights():
    """First draws have the frequencies of the weights, and patches without weight come last."""
    weights = torch.tensor([0.5, 0.3, 0.2, 0.0]).expand(20_000, -1)
    order = draw_by_importance(weights, torch.Generator().manual_seed(0))
    assert_close(order[:, 0].bincount(minlength=4) / len(order), weights[0], rtol=0, atol=0.015)
    assert (order[:, 3] == 3).all()
    # The second of two draws without replacement: p(0, 1) = 0.5 * 0.3 / (1 - 0.5).
    pair = ((order[:, 0] == 0) & (order[:, 1] == 1)).float().mean()
    assert pair.item() == pytest.approx(0.3, abs=0.015)


def theirs(kind, clip_file):
    arch = {'embed_dims': DIM, 'num_layers': DEPTH, 'num_heads': HEADS, 'feedforward_channels': 2 * DIM}
    neck = dict(num_patches=16, patch_size=PATCH, embed_dim=DIM, decoder_embed_dim=DECODER_DIM, mlp_ratio=2)
    neck |= dict(decoder_depth=DEPTH, decoder_num_heads=DECODER_HEADS, predict_feature_dim=PROJECTED)
    loss = {'type': 'CosineSimilarityLoss', 'shift_factor': 2.0, 'scale_factor': 2.0}
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = THEIRS.build(
            dict(
                type=kind,
                backbone=dict(
                    type='MILANViT' if kind == 'MILAN' else 'MAEViT',
                    arch=arch, img_size=IMG, patch_size=PATCH, mask_ratio=0.75,
                ),
                neck=dict(type='MILANPretrainDecoder' if kind == 'MILAN' else 'MAEPretrainDecoder', **neck),
                head=dict(type='MIMHead', loss=loss),
                target_generator=dict(type='CLIPGenerator', tokenizer_path=clip_file),
            )
        )  # fmt: skip
    with torch.no_grad():
        for part in (model.backbone, model.neck):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.neck.decoder_pos_embed[:, 0] = 0
    return model


def model_of(backbone, neck, head, clip_file, **options):
    generator = dict(
        type='mmmim.FrozenTarget', checkpoint=clip_file, encoder=CLIP_OF_TIMM, in_dim=PROJECTED, projected=True,
        statistics='student', **options,
    )  # fmt: skip
    return MODELS.build(
        {
            'type': 'mmmim.MaskedImageModeling',
            'backbone': backbone,
            'branches': {'clip': {'target_generator': generator, 'neck': neck, 'head': head}},
            'data_preprocessor': {
                'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'bgr_to_rgb': False,
            },
        }
    ).train()  # fmt: skip


#: Parts of names of mmpretrain's decoder, and of ours.
NAMES = {
    'decoder_embed.': 'embed.', 'decoder_blocks.': 'blocks.', 'ln1.': 'norm1.', 'ln2.': 'norm2.',
    'ffn.layers.0.0.': 'mlp.fc1.', 'ffn.layers.1.': 'mlp.fc2.', 'attn.q.': 'attn.q_proj.', 'decoder_pred.': 'proj.',
}  # fmt: skip


def decoder_of(state):
    """MILAN's decoder under our names."""
    found = {}
    for key, value in state.items():
        name = re.sub(r'^ln1\.', 'norm.', key.removeprefix('neck.'))
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if 'attn.kv.' in name:
            for part, half in zip(('k_proj', 'v_proj'), value.chunk(2), strict=True):
                found[name.replace('kv', part)] = half
        elif name == 'mask_token':
            found[name] = value[0]
        elif name == 'decoder_pos_embed':
            found['positions.weight'] = value[0, 1:]
        else:
            found[name] = value
    return found


def gradients_of(model, prefix=''):
    return {f'{prefix}{name}': p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}


def compare_encoders(ours, model):
    grads = gradients_of(model.backbone)
    mine = gradients_of(ours.backbone)
    close(mine['patch_embed.weight'].flatten(), grads['patch_embed.projection.weight'].flatten())
    close(mine['blocks.0.mlp.fc1.weight'], grads['layers.0.ffn.layers.0.0.weight'])
    close(mine['blocks.1.attn.proj.weight'], grads['layers.1.attn.proj.weight'])
    close(mine['norm.weight'], grads['ln1.weight'])


def test_eva_in_maes_style(clip_file):
    model = theirs('EVA', clip_file)
    state = {k: v for k, v in model.state_dict().items() if k.startswith(('backbone.', 'neck.'))}
    # The converter of MAE takes a decoder that ends in pixels; this one ends in features.
    pixels = {'neck.decoder_pred.weight': torch.zeros(3 * PATCH**2, DECODER_DIM)}
    pixels['neck.decoder_pred.bias'] = torch.zeros(3 * PATCH**2)
    converted = convert_checkpoint({'state_dict': {**state, **pixels}}, 'mmpretrain', HEADS, DECODER_HEADS, True)
    config = converted['mmmim']['model']
    (branch,) = config['branches'].values()
    neck = {**branch['neck'], 'out_dim': PROJECTED}
    ours = model_of(config['backbone'], neck, {'type': 'mmmim.RegressionHead', 'loss': 'cosine'}, clip_file)
    own = converted['state_dict']
    ours.backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in own.items() if k.startswith('backbone.')})
    decoder = {k.split('.neck.')[1]: v for k, v in own.items() if '.neck.' in k}
    last = {'proj.weight': state['neck.decoder_pred.weight'], 'proj.bias': state['neck.decoder_pred.bias']}
    ours.branches.clip.neck.load_state_dict({**decoder, **last})

    torch.manual_seed(3)
    expected = model.train().loss(images(), [])['loss']
    torch.manual_seed(3)
    order = torch.rand(IMAGES, 16).argsort(dim=1)
    mask = PatchMask(order[:, :4], order[:, 4:].unsqueeze(1), torch.arange(IMAGES), GRID)
    loss = ours.loss(images(), mask, ours.targets(images(), mask))['loss_clip']
    close(loss, expected)
    expected.backward()
    loss.backward()
    compare_encoders(ours, model)
    close(ours.branches.clip.neck.proj.weight.grad, model.neck.decoder_pred.weight.grad)


def test_milan(clip_file):
    model = theirs('MILAN', clip_file)
    state = {k: v for k, v in model.state_dict().items() if k.startswith(('backbone.', 'neck.'))}
    encoder = {k: v for k, v in state.items() if k.startswith('backbone.')}
    converted = convert_checkpoint({'state_dict': encoder}, 'mmpretrain', HEADS)
    neck = dict(
        type='mmmim.PromptingDecoder', context_dim=DIM, embed_dim=DECODER_DIM, depth=DEPTH, num_heads=DECODER_HEADS,
        out_dim=PROJECTED, mlp_ratio=2, grid=GRID, predict_cls=True,
    )  # fmt: skip
    cosine = {'type': 'mmmim.RegressionHead', 'loss': 'cosine'}
    heads = {'patches': {**cosine, 'weight': 16 / 17}, 'cls': {**cosine, 'of': 'cls', 'weight': 1 / 17}}
    head = {'type': 'mmmim.CombinedHead', 'heads': heads}
    ours = model_of(converted['mmmim']['model']['backbone'], neck, head, clip_file, masks='importance')
    own = converted['state_dict']
    ours.backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in own.items() if k.startswith('backbone.')})
    decoder = ours.branches.clip.neck
    assert isinstance(decoder, PromptingDecoder)
    decoder.load_state_dict(decoder_of({k: v for k, v in state.items() if k.startswith('neck.')}))

    torch.manual_seed(3)
    expected = model.train().loss(images(), [])['loss']
    batch = images()
    torch.manual_seed(3)
    mask = ours.masks(batch, all_patches())
    losses = ours.loss(batch, mask, ours.targets(batch, mask))
    assert losses.keys() == {'loss_clip', 'loss_clip_cls'}
    loss = sum(losses.values())
    close(loss, expected)
    expected.backward()
    loss.backward()
    compare_encoders(ours, model)
    wanted = decoder_of({f'neck.{k}': v for k, v in gradients_of(model.neck).items()})
    found = gradients_of(decoder)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        if not name.endswith('k_proj.bias'):  # softmax does not see it
            close(value, wanted[name])
