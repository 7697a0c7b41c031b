"""BEiT and MaskFeat are mmpretrain's: tokens, targets, losses and gradients with the same weights."""

import re

import pytest
import torch
import torch.nn.functional as F

from mmmim.datasets import BEiTMasking, UniformMasking
from mmmim.registry import MODELS
from tests.registered import TOKENIZERS, scrambled

IMAGES = 2
BLOCK = {
    'gamma_1': 'scale1.weight',
    'gamma_2': 'scale2.weight',
    'attn.q_bias': 'attn.q_proj.bias',
    'attn.v_bias': 'attn.v_proj.bias',
    'attn.proj': 'attn.proj',
    'ln1': 'norm1',
    'ln2': 'norm2',
    'ffn.layers.0.0': 'mlp.fc1',
    'ffn.layers.1': 'mlp.fc2',
}
SINGLE = {
    'backbone.patch_embed.projection': 'backbone.patch_embed',
    'backbone.ln1': 'backbone.norm',
    'head.cls_head': 'branches.beit.neck.proj',
    'neck.fc': 'branches.maskfeat.neck.proj',
}


def our_weights(theirs):
    """Weights of mmpretrain's model, or gradients, under our names."""
    ours = {}
    for key, value in theirs.items():
        stem, _, kind = key.rpartition('.')
        match = re.fullmatch(r'backbone\.layers\.(\d+)\.(.*)', key)
        if key == 'backbone.cls_token':
            ours['backbone.extra_tokens'] = value
        elif key == 'backbone.mask_token':
            ours['backbone.mask_token'] = value[0]
        elif key == 'backbone.pos_embed':
            ours['backbone.positions.extra'], ours['backbone.positions.weight'] = value[0, :1], value[0, 1:]
        elif key.startswith('backbone.rel_pos_bias.'):
            if key.endswith('table'):  # the other is which row belongs to which pair
                ours['backbone.positions.table'] = value
        elif stem in SINGLE:
            ours[f'{SINGLE[stem]}.{kind}'] = value
        elif match and match[2].startswith('attn.qkv.'):
            for part, name in zip(value.chunk(3), 'qkv', strict=True):
                ours[f'backbone.blocks.{match[1]}.attn.{name}_proj.{kind}'] = part
        elif match:
            name = BLOCK.get(match[2]) or f'{BLOCK[match[2].rpartition(".")[0]]}.{kind}'
            ours[f'backbone.blocks.{match[1]}.{name}'] = value
        else:
            assert key.startswith('target_generator.'), key
    return ours


def encoder(img, patch, dim, depth, heads, **options):
    sizes = dict(img_size=img, patch_size=patch, embed_dim=dim, depth=depth, num_heads=heads)
    added = dict(positions='learnable', extra_positions=True)
    return dict(type='mmmim.ViT', fused=True, **sizes, **(added | options))


def their_vit(kind, img, patch, dim, depth, heads, **options):
    arch = {'embed_dims': dim, 'num_layers': depth, 'num_heads': heads, 'feedforward_channels': 4 * dim}
    return dict(type=f'mmpretrain.{kind}', arch=arch, img_size=img, patch_size=patch, **options)


def picked(dim, outputs):
    return {'type': 'mmmim.PickPredicted', 'context_dim': dim, 'out_dim': outputs, 'init': 'trunc_normal'}


def beit(img, patch, dim, depth, heads, relative=False):
    positions = dict(use_abs_pos_emb=not relative, use_rel_pos_bias=False, use_shared_rel_pos_bias=relative)
    own = dict(positions='relative_shared', extra_positions=False) if relative else {}
    loss = {'type': 'mmpretrain.CrossEntropyLoss'}
    theirs = dict(
        type='mmpretrain.BEiT',
        _scope_='mmpretrain',
        backbone=their_vit('BEiTPretrainViT', img, patch, dim, depth, heads, **positions),
        head=dict(type='mmpretrain.BEiTV1Head', embed_dims=dim, num_embed=24, loss=loss),
        target_generator={'type': 'mmpretrain.DALL-E', 'n_hid': 8, 'vocab_size': 24},
    )
    branch = {
        'target_generator': dict(type='mmmim.TokenizerTarget', tokenizer=TOKENIZERS['DALL-E'], patch_size=patch),
        'neck': picked(dim, 24),
        'head': {'type': 'mmmim.CrossEntropyHead'},
    }
    return theirs, encoder(img, patch, dim, depth, heads, qkv_bias='qv', layer_scale=0.1, **own), branch


def relative_beit(*sizes):
    """BEiT as in its own paper: with relative positions that all blocks share, in the place of added ones."""
    return beit(*sizes, relative=True)


def maskfeat(img, patch, dim, depth, heads):
    loss = {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}
    theirs = dict(
        type='mmpretrain.MaskFeat',
        _scope_='mmpretrain',
        backbone=their_vit('MaskFeatViT', img, patch, dim, depth, heads),
        neck={'type': 'mmpretrain.LinearNeck', 'in_channels': dim, 'out_channels': 108, 'norm_cfg': None},
        head={'type': 'mmpretrain.MIMHead', 'loss': loss},
        target_generator={'type': 'mmpretrain.HOGGenerator'},
    )
    branch = {
        'target_generator': {'type': 'mmmim.HOGTarget', 'patch_size': patch},
        'neck': picked(dim, 108),
        'head': {'type': 'mmmim.RegressionHead'},
    }
    return theirs, encoder(img, patch, dim, depth, heads), branch


#: Method, img, patch, D, depth, heads, masks.
CASES = {
    'beit': (beit, 96, 16, 24, 2, 3, UniformMasking(mask_ratio=0.6)),
    'beit, relative positions': (relative_beit, 96, 16, 24, 2, 3, UniformMasking(mask_ratio=0.6)),
    'maskfeat': (maskfeat, 224, 16, 16, 1, 2, BEiTMasking(mask_ratio=0.4, min_block=15)),
}


def assert_same(ours, theirs, what):
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < 1e-5, f'{what}: {error:.1e}'


@pytest.mark.parametrize('case', CASES)
def test_tokens_losses_and_gradients(case):
    method, img, patch, dim, depth, heads, masking = CASES[case]
    name, side = 'maskfeat' if method is maskfeat else 'beit', img // patch
    torch.manual_seed(0)
    their_config, backbone, branch = method(img, patch, dim, depth, heads)
    theirs = scrambled(MODELS.build(their_config), 0.1).train()
    ours = MODELS.build({'type': 'mmmim.MaskedImageModeling', 'backbone': backbone, 'branches': {name: branch}}).train()
    state = our_weights(theirs.state_dict())
    generator = ours.branches[name].target_generator
    if name == 'beit':
        generator.tokenizer.encoder.load_state_dict(theirs.target_generator.state_dict())
        prefix = 'branches.beit.target_generator.tokenizer.'
        state |= {f'{prefix}{key}': value for key, value in generator.tokenizer.state_dict().items()}
    ours.load_state_dict(state)

    images = ours.data_preprocessor.normalize(torch.randint(256, (IMAGES, 3, img, img)))
    mask = masking(IMAGES, (side, side), torch.Generator().manual_seed(0))
    masked = torch.zeros(IMAGES, side**2, dtype=torch.int64).scatter(1, mask.flat_predict(), 1).view(-1, side, side)
    samples = [type('Sample', (), {'mask': m})() for m in masked]
    if name == 'beit':
        # Half of the resolution for patches of 16; their pipeline would make this picture.
        pixels = (images * ours.data_preprocessor.std + ours.data_preprocessor.mean) / 255
        small = F.interpolate(pixels, size=(8 * side, 8 * side), mode='bicubic', antialias=True).clamp(0, 1)
        inputs = [images, 0.8 * small + 0.1]
        tokens = theirs.backbone(images, masked)[0]
    else:
        inputs = images
        tokens = theirs.backbone(images, masked.flatten(1).bool())
    their_loss = theirs.loss(inputs, samples)['loss']
    their_loss.backward()

    context = ours.backbone(images, mask)
    assert_same(torch.cat([context.extra, context.visible], dim=1), tokens, 'tokens')
    our_loss = ours.loss(images, mask, ours.targets(images, mask))[f'loss_{name}']
    our_loss.backward()
    assert_same(our_loss, their_loss, 'loss')
    parameters = dict(theirs.named_parameters())
    gradients = our_weights({key: p.grad for key, p in parameters.items() if not key.startswith('target_generator.')})
    own = {key: p.grad for key, p in ours.named_parameters() if p.requires_grad}
    assert set(own) == set(gradients)
    largest = max(gradient.norm() for gradient in gradients.values())
    for key, gradient in own.items():
        # That of the bias of keys is the rounding of what cancels.
        assert (gradient - gradients[key]).norm() < 1e-5 * max(gradients[key].norm(), 1e-2 * largest), key

    with torch.no_grad():
        theirs.eval(), ours.eval()
        whole = theirs.backbone(images, None)
        whole = whole[-1] if isinstance(whole, (tuple, list)) else whole
        context = ours.backbone(images)
        assert_same(torch.cat([context.extra, context.visible], dim=1), whole, 'tokens of whole images')
    change = (context.visible - ours.backbone(images, mask).visible).abs().max()
    assert change > 0.1
