"""BEiT v2 is mmpretrain's: tokens, predictions, both losses, gradients and optimiser steps with the same weights."""

import re

import pytest
import torch
import torch.nn.functional as F
from mmengine import Config

from mmmim.datasets import BEiTMasking
from mmmim.engine import OptimWrapper
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.models import PatchAggregation
from mmmim.registry import MODELS
from mmmim.structures import Context
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.registered import ENCODERS, NECKS, build, neck_input, normalized, scrambled
from tests.test_models.test_beit_maskfeat_equality import encoder, our_weights, their_vit
from tests.toys import random_mask

IMG, PATCH, DIM, DEPTH, HEADS, TOKENS, EARLY = 96, 16, 24, 4, 3, 24, 1
SIDE = IMG // PATCH
ARCH = {'embed_dims': DIM, 'num_layers': DEPTH, 'num_heads': HEADS, 'feedforward_channels': 4 * DIM}
VQKD = {'embed_dims': 16, 'num_layers': 1, 'num_heads': 2, 'feedforward_channels': 64}


def under_our_names(theirs):
    """Weights of mmpretrain's model, or gradients, under our names; those of the tokenizer are left out."""
    encoder_and_blocks = {}
    for key, value in theirs.items():
        if key.startswith('neck.patch_aggregation.'):  # blocks, like those of the encoder, after them
            number = int(key.split('.')[2])
            encoder_and_blocks[re.sub(r'neck\.patch_aggregation\.\d+', f'backbone.layers.{DEPTH + number}', key)] = (
                value
            )
        elif key.startswith('neck.norm.'):
            encoder_and_blocks[key.replace('neck.norm', 'backbone.ln1')] = value
        elif not key.startswith('target_generator.'):
            encoder_and_blocks[key] = value
    ours = {}
    for key, value in our_weights(encoder_and_blocks).items():
        match = re.fullmatch(r'backbone\.blocks\.(\d+)\.(.*)', key)
        if match and int(match[1]) >= DEPTH:
            key = f'branches.beit.neck.blocks.{int(match[1]) - DEPTH}.{match[2]}'
        ours[key.replace('beit.neck.proj', 'tokens.neck.proj').replace('branches.beit.', 'branches.tokens.')] = value
    return ours


def theirs_and_ours(dtype=torch.float32):
    positions = dict(use_abs_pos_emb=True, use_rel_pos_bias=False)
    tokenizer = dict(
        their_vit('BEiTViT', IMG, PATCH, 16, 1, 2, **positions, out_type='featmap', layer_scale_init_value=0.0),
        norm_cfg={'type': 'LN', 'eps': 1e-6},
    )
    del tokenizer['type']
    theirs = dict(
        type='mmpretrain.BEiT',
        _scope_='mmpretrain',
        backbone=their_vit('BEiTPretrainViT', IMG, PATCH, DIM, DEPTH, HEADS, out_indices=[EARLY, -1], final_norm=False),
        neck=dict(type='mmpretrain.BEiTV2Neck', early_layers=EARLY + 1, backbone_arch={**ARCH, 'depth': DEPTH}),
        head=dict(
            type='mmpretrain.BEiTV2Head', embed_dims=DIM, num_embed=TOKENS, loss={'type': 'mmpretrain.CrossEntropyLoss'}
        ),
        target_generator=dict(
            type='mmpretrain.VQKD', encoder_config=tokenizer, num_embed=TOKENS, quantize_kmeans_init=False
        ),
    )
    branch = {
        'target_generator': {
            'type': 'mmmim.TokenizerTarget',
            'patch_size': PATCH,
            'tokenizer': {
                'type': 'mmmim.VQKDTokenizer',
                'num_tokens': TOKENS,
                'arch': VQKD,
                'grid': (SIDE, SIDE),
                'untrained': True,
            },
        },
        'neck': {
            'type': 'mmmim.PatchAggregation',
            'context_dim': DIM,
            'out_dim': TOKENS,
            'early_layer': EARLY,
            'num_heads': HEADS,
        },
        'head': {
            'type': 'mmmim.CombinedHead',
            'heads': {
                'last': {'type': 'mmmim.CrossEntropyHead'},
                'early': {'type': 'mmmim.CrossEntropyHead', 'of': 'early'},
            },
        },
    }
    backbone = encoder(
        IMG,
        PATCH,
        DIM,
        DEPTH,
        HEADS,
        qkv_bias='qv',
        layer_scale=0.1,
        positions='relative_shared',
        extra_positions=False,
    )
    torch.manual_seed(0)
    theirs = scrambled(MODELS.build(theirs), 0.1)
    with torch.no_grad():
        theirs.target_generator.quantize.embedding.weight.copy_(F.normalize(torch.randn(TOKENS, 32), dim=-1))
    ours = MODELS.build({'type': 'mmmim.MaskedImageModeling', 'backbone': backbone, 'branches': {'tokens': branch}})
    generator = ours.branches['tokens'].target_generator
    generator.tokenizer.encoder.load_state_dict(theirs.target_generator.state_dict())
    prefix = 'branches.tokens.target_generator.'
    tokens = {f'{prefix}{key}': value for key, value in generator.state_dict().items()}
    ours.load_state_dict(under_our_names(theirs.state_dict()) | tokens)
    theirs, ours = theirs.to(dtype).train(), ours.to(dtype).train()
    theirs.target_generator.eval()  # in training mode its codebook moves, and with it the meaning of tokens
    return theirs, ours


def batch(ours, dtype=torch.float32, seed=0):
    """Normalised images, their masks, and what mmpretrain's loss gets."""
    rng = torch.Generator().manual_seed(seed)
    statistics = ours.data_preprocessor
    pixels = torch.randint(256, (4, 3, IMG, IMG), generator=rng).to(dtype)
    images = (pixels - statistics.mean) / statistics.std
    mask = BEiTMasking(num_visible=22, min_block=4, whole_grid=True)(4, (SIDE, SIDE), rng)
    masked = torch.zeros(4, SIDE**2, dtype=torch.int64).scatter(1, mask.flat_predict(), 1).view(-1, SIDE, SIDE)
    samples = [type('Sample', (), {'mask': each})() for each in masked]
    return images, mask, ([images, (pixels - 127.5) / 127.5], samples)


def assert_same(ours, theirs, what, limit=1e-5):
    error = (ours - theirs).norm() / theirs.norm()
    assert error < limit, f'{what}: {error:.1e}'


def test_tokens_predictions_losses_and_gradients():
    theirs, ours = theirs_and_ours()
    images, mask, (inputs, samples) = batch(ours)
    order = mask.flat_predict()
    expected = theirs.target_generator(inputs[1])
    targets = ours.targets(images, mask)
    assert torch.equal(targets['tokens'].patches, expected.gather(1, order))
    assert len(expected.unique()) > 5

    masked = torch.stack([sample.mask for sample in samples])
    states = theirs.backbone(images, masked)
    predictions = [
        theirs.head.cls_head(each) for each in theirs.neck(states, rel_pos_bias=theirs.backbone.shared_rel_pos_bias)
    ]
    branch = ours.branches['tokens']
    index = order.unsqueeze(-1).expand(-1, -1, TOKENS)
    for reads in ('all', 'predicted'):
        context = ours.backbone(images, mask, layers=branch.neck.layers, reads=reads)
        prediction = branch.neck(context, mask)
        assert_same(prediction.patches, predictions[0].gather(1, index), 'predictions of the last block')
        assert_same(prediction.early, predictions[1].gather(1, index), 'predictions of the earlier block')
    assert (prediction.patches - prediction.early).abs().max() > 0.1

    their_losses = theirs.loss(inputs, samples)
    losses = ours.loss(images, mask, targets)
    assert set(losses) == {'loss_tokens', 'loss_tokens_early'}
    assert_same(losses['loss_tokens'], their_losses['loss_1'], 'loss of the last block')
    assert_same(losses['loss_tokens_early'], their_losses['loss_2'], 'loss of the earlier block')
    sum(their_losses.values()).backward()
    sum(losses.values()).backward()
    frozen = 'target_generator.'
    gradients = under_our_names({k: p.grad for k, p in theirs.named_parameters() if not k.startswith(frozen)})
    own = {key: p.grad for key, p in ours.named_parameters() if p.requires_grad}
    assert set(own) == set(gradients)
    for key, gradient in own.items():
        assert_same(gradient, gradients[key], f'gradient of {key}', 2e-5)


def test_three_optimiser_steps(monkeypatch):
    # All of it in fp64: AdamW divides by the size of gradients, and makes steps out of rounding errors.
    to_fp32 = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, 'float', lambda x: x if x.dtype == torch.float64 else to_fp32(x))
    theirs, ours = theirs_and_ours(torch.float64)
    ours.micro_batch_size = 2
    # The images of `batch` are normalised.
    monkeypatch.setattr(ours.data_preprocessor, 'forward', lambda data, training: data)
    recipe = Config.fromfile(ROOT / 'configs/beitv2/vitb16.py').optim_wrapper
    options = {'lr': 1e-3, 'weight_decay': recipe.optimizer.weight_decay}
    decayed, others = [], []
    for key, parameter in theirs.named_parameters():
        if not key.startswith('target_generator.'):
            (others if re.search(r'bias$|ln|norm|gamma|cls_token', key) else decayed).append(parameter)
    optimizer = torch.optim.AdamW(
        [{'params': decayed}, {'params': others, 'weight_decay': 0.0}], betas=recipe.optimizer.betas, **options
    )
    groups = parameter_groups(ours, **options, rules=recipe.paramwise_cfg.rules)
    wrapper = OptimWrapper(torch.optim.AdamW(groups, betas=recipe.optimizer.betas, fused=True))
    start = {key: value.clone() for key, value in ours.state_dict().items()}
    for step in range(3):
        images, mask, (inputs, samples) = batch(ours, torch.float64, step)
        their_loss = sum(theirs.loss(inputs, samples).values())
        optimizer.zero_grad()
        their_loss.backward()
        optimizer.step()
        loss = ours.train_step({'inputs': images, 'mask': mask}, wrapper)['loss']
        assert_same(loss, their_loss, f'loss {step}', 1e-9)
    expected = under_our_names(theirs.state_dict())
    for key, value in expected.items():
        assert_same(ours.state_dict()[key] - start[key], value - start[key], f'change of {key} in three steps', 1e-7)
        assert (value - start[key]).abs().max() > 1e-4


def test_the_blocks_start_as_those_of_the_authors():
    torch.manual_seed(0)
    neck = PatchAggregation(64, 32, early_layer=8, num_heads=4)
    for number, block in zip((10, 11), neck.blocks, strict=True):
        # PyTorch's default is uniform up to one over the root of the width.
        for layer, width, factor in (
            (block.attn.q_proj, 64, 1),
            (block.mlp.fc1, 64, 1),
            (block.attn.proj, 64, (2 * number) ** -0.5),
            (block.mlp.fc2, 256, (2 * number) ** -0.5),
        ):
            assert float(layer.weight.detach().std()) == pytest.approx(factor * (3 * width) ** -0.5, rel=0.03)
        assert not block.attn.q_proj.bias.any()
        assert not block.attn.v_proj.bias.any()
        assert block.attn.k_proj.bias is None
        assert block.mlp.fc1.bias.any()
    assert neck.proj.weight.abs().max() <= 0.02


def test_encoders_that_do_not_fit():
    neck, masks = build(NECKS['two blocks'][0]), random_mask(4)
    context, mask = neck_input('two blocks')
    bare = Context(context.visible, context.extra, context.grid, context.positions, context.hidden, 1)
    with pytest.raises(InputError, match=r'Context\.normed, Context\.block_inputs'):
        neck(bare, mask)
    with pytest.raises(InputError, match='num_cls_tokens=1'):
        neck(build(ENCODERS['learned, nothing but patches'])(normalized(), masks, layers=neck.layers), masks)
    with pytest.raises(InputError, match='before the last one'):
        neck(build(ENCODERS['sincos, CLS'])(normalized(), masks, layers=neck.layers), masks)
    with pytest.raises(InputError, match='take PatchAggregation'):
        MODELS.build({'type': 'mmmim.CrossEntropyHead', 'of': 'early'}).loss(
            build(NECKS['picked'][0])(context, mask), None, context
        )
    with pytest.raises(InputError, match="'patches' or 'early'"):
        MODELS.build({'type': 'mmmim.CrossEntropyHead', 'of': 'cls'})
