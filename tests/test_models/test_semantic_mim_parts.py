"""The parts of SemanticMIM, BEiT and MaskFeat: neck, head, targets, and the options of the encoder they need."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmmim.models import CrossEntropyHead, HOGTarget, ProxyReconstruction, ViT
from mmmim.models.functional import hog
from mmmim.models.layers import Block, LayerScale, blocks_of, drop_path_rates
from mmmim.models.layers.attention import Attention
from mmmim.models.necks.proxy_reconstruction import ProxyBlock
from mmmim.registry import MODELS
from mmmim.structures import Prediction, Target
from mmmim.utils import InputError
from tests.toys import CAPI_STYLE, DIM, GRID, PATCH, batch, optim_wrapper, random_mask

SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)
NO_NORMALISATION = {
    'type': 'mmmim.MIMDataPreprocessor',
    'mean': [0.0] * 3,
    'std': [1.0] * 3,
    'bgr_to_rgb': False,
}


def encoder(**options):
    defaults = dict(img_size=SIZE, patch_size=PATCH, embed_dim=DIM, depth=2, num_heads=2, num_cls_tokens=3)
    defaults |= dict(positions='learnable', extra_positions=True, final_norm=False)
    return ViT(**(defaults | options))


def neck(**options):
    return ProxyReconstruction(**(dict(context_dim=DIM, depth=2, num_heads=2) | options))


def scramble(*modules, std=0.3):
    """Random weights everywhere, so that nothing is a constant."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(std * torch.randn_like(parameter))
    return modules


def config(branch=None, **options):
    """A SemanticMIM of width 16 for 16 px images in patches of 4."""
    backbone = {
        'type': 'mmmim.ViT',
        'img_size': SIZE,
        'patch_size': PATCH,
        'embed_dim': DIM,
        'depth': 2,
        'num_heads': 2,
        'num_cls_tokens': 3,
        'positions': 'learnable',
        'extra_positions': True,
        'final_norm': False,
    }
    semantic = {
        'target_generator': {'type': 'mmmim.HOGTarget', 'patch_size': PATCH, 'cell': PATCH, 'window': 8},
        'neck': {'type': 'mmmim.ProxyReconstruction', 'context_dim': DIM, 'depth': 2, 'num_heads': 2, 'out_dim': 27},
        'head': {'type': 'mmmim.RegressionHead'},
    }
    for key, value in (branch or {}).items():
        semantic[key] = value if 'type' in value else semantic[key] | value
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': NO_NORMALISATION,
        'backbone': backbone | options.pop('backbone', {}),
        'branches': {'semantic': semantic},
        **options,
    }


def predict(backbone, neck, images, mask):
    return neck(backbone(images, mask, layers=neck.layers), mask).patches


# ---------------------------------------------------------------------------------------------------------- neck


def test_predictions_know_an_image_by_its_proxies_alone():
    backbone, head = scramble(encoder(), neck())
    data = batch(2)
    context = backbone(data['inputs'], data['mask'], layers=(0, 1))
    before = head(context, data['mask']).patches
    number = context.extra.shape[1]
    for state in context.hidden:
        state.data[:, number:] = torch.nan
    context.visible.data[:] = torch.nan
    torch.testing.assert_close(head(context, data['mask']).patches, before)
    context.hidden[0].data[0, 1] += torch.randn(DIM)
    after = head(context, data['mask']).patches
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[1], before[1])


def test_mask_tokens_see_each_other():
    """With another patch predicted beside it, the prediction of a patch changes."""
    backbone, head = scramble(encoder(), neck())
    data = batch(2)
    mask = data['mask']
    one = predict(backbone, head, data['inputs'], mask)
    other = replace(mask, predict=mask.predict[..., :-1])
    less = predict(backbone, head, data['inputs'], other)
    assert (less - one[:, :-1]).abs().max() > 1e-3


def test_blocks_of_the_neck_are_of_the_encoders_index():
    """A block reads the state that leaves the encoder's block, not the one that enters it."""
    backbone, head = scramble(encoder(), neck())
    data = batch(2)
    context = backbone(data['inputs'], data['mask'], layers=(0, 1))
    x = head.mask_token + backbone.positions.weight[data['mask'].flat_predict()]
    for block, state in zip(head.blocks, context.hidden, strict=True):
        source = block.norm1(torch.cat([state[:, :3], x], dim=1))
        x = x + block.attn(block.norm1(x), context=source)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(head(context, data['mask']).patches, head.norm(x))


@pytest.mark.parametrize('positions', ['added', 'rope'])
def test_target_blocks_are_predicted_apart(positions):
    options = dict(positions='rope', extra_positions=False, num_cls_tokens=4) if positions == 'rope' else {}
    backbone, head = scramble(encoder(**options), neck(positions=positions, out_dim=5))
    images = batch(2)['inputs']
    mask = random_mask(2, visible=5, predict=3, blocks=3, per_image=2)
    together = predict(backbone, head, images, mask)
    assert together.shape == (4, 9, 5)
    for i in range(3):
        alone = replace(mask, predict=mask.predict[:, i : i + 1])
        torch.testing.assert_close(predict(backbone, head, images, alone), together[:, 3 * i : 3 * i + 3])


def test_rotated_mask_tokens():
    """Coordinates turn queries and keys; those of proxies are the encoder's."""
    options = dict(positions='rope', extra_positions=False, num_cls_tokens=4)
    backbone, head = scramble(encoder(**options), neck(positions='rope'))
    data = batch(2)
    mask = data['mask']
    context = backbone(data['inputs'], mask, layers=(0, 1))
    codes = backbone.positions.codes(GRID)
    asked, extra = codes[mask.flat_predict()], backbone.positions.extra_codes(4, codes[mask.visible])
    turn, both = head.rope.rotation(asked), head.rope.rotation(torch.cat([extra, asked], dim=1))
    x = head.mask_token.expand(2, asked.shape[1], -1)
    for block, state in zip(head.blocks, context.hidden, strict=True):
        source = block.norm1(torch.cat([state[:, :4], x], dim=1))
        x = x + block.attn(block.norm1(x), turn, source, both)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(head(context, mask).patches, head.norm(x))
    moved = replace(mask, predict=mask.predict.roll(1, -1))
    torch.testing.assert_close(
        predict(backbone, head, data['inputs'], moved), predict(backbone, head, data['inputs'], mask).roll(1, 1)
    )


def test_proxy_blocks_are_blocks():
    head = neck(layer_scale=0.1, drop_path_rate=(0.0, 0.2), qkv_bias='qv')
    assert blocks_of(head) == list(head.blocks)
    assert all(isinstance(block, Block) for block in head.blocks)
    assert [block.drop_path for block in head.blocks] == [0.0, 0.2]
    own = {name for name, _ in ProxyBlock(DIM, 2, DIM).named_parameters()}
    assert own == {name for name, _ in Block(DIM, 2, DIM).named_parameters()}


@pytest.mark.parametrize('mode', ['full', 'selective'])
def test_checkpointing_changes_nothing(mode):
    losses = []
    for value in (None, mode):
        torch.manual_seed(0)
        model = MODELS.build(config(activation_checkpointing=value)).train()
        data = batch(4)
        targets = model.targets(data['inputs'], data['mask'], differentiable=False)
        loss = model.loss(data['inputs'], data['mask'], targets)['loss_semantic']
        loss.backward()
        losses.append([loss, *(p.grad for p in model.parameters())])
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other)


def test_all_parameters_are_trained():
    model = MODELS.build(config()).train()
    data = batch(4)
    targets = model.targets(data['inputs'], data['mask'], differentiable=False)
    model.loss(data['inputs'], data['mask'], targets)['loss_semantic'].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_initialisation_of_the_neck():
    torch.manual_seed(0)
    head = neck(context_dim=64, depth=3, init='trunc_normal_rescaled', out_dim=50)
    for i, block in enumerate(head.blocks, start=1):
        for layer, std in ((block.attn.q_proj, 0.02), (block.attn.proj, 0.02 / (2 * i) ** 0.5)):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
    assert head.proj.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not head.proj.bias.any()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'neck': {'depth': 1}}, r'semantic\.neck\.depth is 1 and model\.backbone\.depth is 2'),
        ({'neck': {'depth': 3}}, r'semantic\.neck\.depth is 3 and model\.backbone\.depth is 2'),
        ({'neck': {'context_dim': 8}}, r'neck\.context_dim is 8 and model\.backbone\.embed_dim is 16'),
        ({'neck': {'out_dim': 5}}, r'target_generator\.out_dim is 27 and .*neck\.out_dim is 5'),
        ({'neck': {'positions': 'sincos'}}, r"positions must be 'added' or 'rope', got 'sincos'"),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(config(changes))


@pytest.mark.parametrize(
    ('backbone', 'positions', 'message'),
    [
        (dict(num_cls_tokens=0), 'added', 'needs an encoder with proxies: set model.backbone.num_cls_tokens'),
        (dict(), 'rope', "must be 'rope' if model.backbone.positions is"),
        (dict(positions='rope', extra_positions=False, num_cls_tokens=4), 'added', "and 'added' if not"),
    ],
)
def test_encoders_that_do_not_fit(backbone, positions, message):
    data = batch(2)
    with pytest.raises(InputError, match=message):
        predict(encoder(**backbone), neck(positions=positions), data['inputs'], data['mask'])


# ------------------------------------------------------------------------------------------- combinations by config


CLUSTERS = {
    'target_generator': {'type': 'mmmim.OnlineClustering', 'in_dim': DIM, 'num_prototypes': 24},
    'neck': {
        'type': 'mmmim.ProxyReconstruction',
        'context_dim': DIM,
        'depth': 2,
        'num_heads': 2,
        'init': 'capi',
        **{key: value for key, value in CAPI_STYLE.items() if key != 'init'},
    },
    'head': {'type': 'mmmim.PrototypeHead', 'in_dim': DIM, 'num_prototypes': 24},
}
PIXELS = {
    'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH},
    'neck': {'out_dim': 3 * PATCH**2},
}
TOKENS = {
    'target_generator': {
        'type': 'mmmim.TokenizerTarget',
        'patch_size': PATCH,
        'mean': [0.0] * 3,
        'std': [1.0] * 3,
        'tokenizer': {'type': 'mmmim.KMeansTokenizer', 'num_tokens': 12, 'patch_size': PATCH, 'untrained': True},
    },
    'neck': {'out_dim': 12},
    'head': {'type': 'mmmim.CrossEntropyHead'},
}
COMBINATIONS = {
    'gradients': config(),
    'tokens': config(TOKENS),
    'pixels': config(PIXELS, backbone={'positions': 'sincos', 'extra_positions': False}),
    'clusters': config(
        CLUSTERS,
        backbone={'num_cls_tokens': 4, **CAPI_STYLE, 'extra_positions': False, 'final_norm': True},
        teacher=['backbone', 'branches.semantic.neck', 'branches.semantic.head'],
    ),
}


@pytest.mark.parametrize('name', COMBINATIONS)
def test_combinations_train(name):
    torch.manual_seed(0)
    model = MODELS.build({**COMBINATIONS[name], 'micro_batch_size': 4})
    model.init_weights()
    wrapper, data = optim_wrapper(model, lr=3e-3), batch(8)
    losses = [model.train_step(data, wrapper)['loss_semantic'].item() for _ in range(20)]
    assert losses[-1] < 0.95 * losses[0]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_reconstructions_of_pixels():
    """Pictures are drawn of the neck's predictions, which need the states of the encoder's blocks."""
    from mmmim.visualization.reconstruction import reconstruct

    model = MODELS.build(COMBINATIONS['pixels']).eval()
    data = batch(2)
    pictures = reconstruct(
        model.backbone,
        model.branches['semantic'],
        model.data_preprocessor,
        **{'images': data['inputs'], 'mask': data['mask']},
    )
    assert pictures['predicted'].shape == (2, *SIZE, 3)


def test_micro_batches_change_nothing():
    norms = []
    for size in (None, 3):
        torch.manual_seed(0)
        model = MODELS.build(config(TOKENS, micro_batch_size=size))
        wrapper, data = optim_wrapper(model), batch(8)
        loss = model.train_step(data, wrapper)['loss']
        norms.append([loss, *(p.detach().norm() for p in model.parameters())])
    torch.testing.assert_close(*(torch.stack(n) for n in norms))


# ---------------------------------------------------------------------------------------------------------- head


def test_cross_entropy_head():
    torch.manual_seed(0)
    logits, tokens = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    loss = CrossEntropyHead().loss(Prediction(logits), Target(tokens), None)['loss']
    expected = -sum(logits[g, m].log_softmax(-1)[tokens[g, m]] for g in range(3) for m in range(5)) / 15
    torch.testing.assert_close(loss, expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = CrossEntropyHead().loss(Prediction(logits.bfloat16()), Target(tokens), None)['loss']
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, F.cross_entropy(logits.bfloat16().float().flatten(0, 1), tokens.flatten()))


# ------------------------------------------------------------------------------------- histograms of gradients


def test_histograms_are_mmpretrains():
    from mmpretrain.models.selfsup.maskfeat import HOGGenerator

    torch.manual_seed(0)
    noise = torch.randn(2, 3, 224, 224)
    levels = (torch.randint(256, (1, 3, 224, 224)) - 120.0) / 57.0  # where rounding decides about bins
    for images in (noise, levels):
        assert torch.equal(HOGTarget().patches(images), HOGGenerator()(images))
    # 14 patches of 32 pixels
    large = torch.randn(1, 3, 448, 448)
    assert torch.equal(HOGTarget(patch_size=32).patches(large), HOGGenerator()(large))


def test_histograms_of_other_grids():
    """A patch of a larger image has the histograms that it has in a smaller one around it."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 48, 64)
    target = HOGTarget()
    whole = target.patches(images)
    assert whole.shape == (1, 12, 108)
    inner = target.patches(images[..., 16:48, 16:64])
    # The last patch's gradients at its upper and left side need the pixels beside it only.
    torch.testing.assert_close(inner[0, 5], whole[0, 11])
    assert HOGTarget(patch_size=8).patches(images).shape == (1, 48, 27)
    torch.testing.assert_close(
        HOGTarget(patch_size=8).patches(images).view(6, 8, 3, 9)[2, 5], whole.view(3, 4, 3, 9, 2, 2)[1, 2, ..., 0, 1]
    )


@pytest.mark.parametrize(('turned', 'bins'), [(False, (4,)), (True, (0,))])
def test_direction_of_a_ramp(turned, bins):
    """A slope across is in the middle bin, one down in the first; which way it goes does not matter."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    ramp = ramp.transpose(-1, -2) if turned else ramp
    for image in (ramp, -ramp):
        cells = hog(image)[0, 0, :, :, :]
        inner = cells[..., 0, 1] if turned else cells[..., 1, 0]
        assert inner.argmax() in bins
        assert inner.norm().item() == pytest.approx(1)


def test_histograms_of_flat_images_are_zero():
    assert not hog(torch.full((1, 3, 16, 16), 0.37)).any()


def test_histogram_targets_are_those_of_the_predicted_patches():
    target = HOGTarget(patch_size=PATCH, cell=2, window=8)
    data = batch(3)
    mask = random_mask(3, per_image=2, blocks=2)
    whole, made = target.patches(data['inputs']), target(data['inputs'], mask, None, None).patches
    assert made.shape == (6, 6, target.out_dim) == (6, 6, 108)
    for g in range(6):
        assert torch.equal(made[g], whole[mask.image_index[g], mask.flat_predict()[g]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(target.patches(data['inputs']), whole)


def test_histograms_that_do_not_fit():
    with pytest.raises(InputError, match=r'HOGTarget\.cell=8 does not divide patches of 14'):
        HOGTarget(patch_size=14)
    with pytest.raises(InputError, match=r'HOGTarget\.window=16 does not divide images of 32 x 24'):
        HOGTarget(patch_size=8).patches(torch.zeros(1, 3, 32, 24))
    mask = replace(random_mask(2), offsets=torch.zeros(2, 16, 2))
    with pytest.raises(InputError, match='gap=0'):
        HOGTarget(patch_size=PATCH, cell=4)(torch.zeros(2, 3, 16, 16), mask, None, None)


# ------------------------------------------------------------------------------------------- options of the encoder


def test_layer_scale():
    torch.manual_seed(0)
    scale = LayerScale(5, 0.1)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(scale(x), 0.1 * x)
    plain, scaled = Block(DIM, 2), Block(DIM, 2, layer_scale=1.0)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, DIM)
    torch.testing.assert_close(scaled(x), plain(x))
    with torch.no_grad():
        scaled.scale1.weight.zero_()
        scaled.scale2.weight.zero_()
    assert torch.equal(scaled(x), x)


def test_biases_of_queries_and_values():
    """The bias of keys, which softmax does not see, is left out."""
    torch.manual_seed(0)
    full, less = Attention(DIM, 2, qkv_bias=True), Attention(DIM, 2, qkv_bias='qv')
    assert less.k_proj.bias is None
    assert less.q_proj.bias is not None
    assert less.v_proj.bias is not None
    state = full.state_dict()
    state.pop('k_proj.bias')
    less.load_state_dict(state)
    x = torch.randn(2, 5, DIM)
    torch.testing.assert_close(less(x), full(x))
    with pytest.raises(InputError, match="qkv_bias must be True, False or 'qv', got 'kv'"):
        Attention(DIM, 2, qkv_bias='kv')


def test_attention_weights():
    torch.manual_seed(0)
    own, cross = Attention(DIM, 2), Attention(DIM, 2, 8)
    x, context = torch.randn(2, 5, DIM), torch.randn(2, 7, 8)
    for layer, source in ((own, None), (cross, context)):
        weights = layer.weights(x, context=source)
        assert weights.shape == (2, 2, 5, 5 if source is None else 7)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5))
        values = layer.v_proj(x if source is None else source).unflatten(-1, (2, -1)).transpose(1, 2)
        torch.testing.assert_close(layer.proj((weights @ values).transpose(1, 2).flatten(2)), layer(x, context=source))


def test_attention_weights_with_rotation():
    model = encoder(positions='rope', extra_positions=False, num_cls_tokens=4)
    rotation = model.positions.rotation(model.positions.codes(GRID).unsqueeze(0))
    layer, x = model.blocks[0].attn, torch.randn(2, 16, DIM)
    values = layer.v_proj(x).unflatten(-1, (2, -1)).transpose(1, 2)
    out = layer.proj((layer.weights(x, rotation) @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, layer(x, rotation))
    assert (layer.weights(x) - layer.weights(x, rotation)).abs().max() > 1e-4


def test_rates_of_drop_path():
    assert drop_path_rates((0, 0.1), 3) == [0.0, 0.05, 0.1]
    assert drop_path_rates(0.2, 2) == [0.2, 0.2]
    assert drop_path_rates((0.1, 0.3), 1) == [0.1]
    assert [block.drop_path for block in encoder(depth=3, drop_path_rate=(0, 0.1)).blocks] == [0.0, 0.05, 0.1]
    for wrong in (1.0, -0.1, (0.1,), (0.0, 1.0)):
        with pytest.raises(InputError, match='drop_path_rate must be'):
            drop_path_rates(wrong, 3)


def test_proxies_have_positions_and_no_place():
    model = encoder(num_registers=1)
    assert model.positions.extra.shape == (4, DIM)
    images = batch(2)['inputs']
    before = model(images).extra
    with torch.no_grad():
        model.extra_tokens += 1
        model.positions.extra -= 1
    torch.testing.assert_close(model(images).extra, before)
    with pytest.raises(InputError, match='no vectors for extra tokens'):
        encoder(positions='rope', num_cls_tokens=4)


def test_no_final_norm():
    model = encoder()
    data = batch(2)
    context = model(data['inputs'], data['mask'], layers=(-1,))
    assert torch.equal(torch.cat([context.extra, context.visible], dim=1), context.hidden[0])
    assert not [name for name, _ in model.named_parameters() if name.startswith('norm')]


def test_tokens_are_those_of_the_blocks():
    """With depth 0 the encoder gives what enters the first block."""
    model = encoder()
    data = batch(2)
    context = model(data['inputs'], data['mask'], depth=0)
    whole = model(data['inputs'], depth=0)
    index = data['mask'].visible.unsqueeze(-1).expand(-1, -1, DIM)
    torch.testing.assert_close(context.visible, whole.visible.gather(1, index))
    torch.testing.assert_close(context.extra, (model.extra_tokens + model.positions.extra).expand(2, -1, -1))
