"""Necks written out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmmim.models.layers import Block, blocks_of
from mmmim.models.necks.proxy_reconstruction import ProxyBlock
from mmmim.structures import Context
from mmmim.utils import InputError
from tests.registered import ENCODERS, NECKS, build, neck_input, normalized, scrambled
from tests.toys import DIM, random_mask

WIDTH = 8


def neck(name, **options):
    """A neck of the table with random weights everywhere."""
    return scrambled(build({**NECKS[name][0], **options}))


# -------------------------------------------------------------------------------------------------------- predictors


@pytest.mark.parametrize('final_norm', [False, True])
def test_cls_written_out(final_norm):
    """All tokens in raster order, CLS first, each with a learned position, as MAE's decoder has them."""
    model = neck('self-attention, CLS', final_norm=final_norm)
    context, mask = neck_input('self-attention, CLS', visible=4, predict=12)
    masks = mask.num_masks
    tokens = model.mask_token.expand(masks, 16, -1).clone()
    for g in range(masks):
        tokens[g, mask.visible[g]] = model.embed(context.visible[g])
    x = torch.cat([model.embed(context.extra), tokens], dim=1)
    x = x + torch.cat([model.positions.extra, model.positions.weight])
    for block in model.blocks:
        x = block(x)
    x = F.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias) if final_norm else x
    prediction = model(context, mask)
    torch.testing.assert_close(prediction.cls, x[:, 0], rtol=1e-4, atol=1e-5)
    expected = torch.stack([x[g, 1 + mask.predict[g, 0]] for g in range(masks)])
    torch.testing.assert_close(prediction.patches, expected, rtol=1e-4, atol=1e-5)


def test_positions_of_another_grid():
    mask = random_mask(2, visible=10, predict=5, grid=(3, 5))
    context = Context(torch.randn(2, 10, DIM), torch.randn(2, 1, DIM), (3, 5), None)
    model = build(NECKS['self-attention, added'][0])
    exact = build({**NECKS['self-attention, added'][0], 'grid': (3, 5)})
    exact.positions.weight.copy_(model.positions.codes((3, 5)))
    torch.testing.assert_close(model(context, mask).patches, exact(context, mask).patches)


@pytest.mark.parametrize('name', ['cross-attention, rotary', 'cross-attention, learned'])
def test_cross_attention_knows_where_patches_are(name):
    """Where the visible patches are, and where those are that it predicts."""
    model = neck(name)
    context, mask = neck_input(name)
    expected = model(context, mask).patches
    moved = model(context, replace(mask, predict=mask.predict.roll(1, -1))).patches
    assert (moved - expected).abs().max() > 1e-3
    elsewhere = model(context, replace(mask, visible=mask.visible.roll(1, -1))).patches
    assert ((elsewhere - expected).abs().max() > 1e-4) == name.endswith('rotary')


@pytest.mark.parametrize(
    ('tokens', 'blocks', 'found'),
    [({'num_cls_tokens': 0, 'num_registers': 1}, 1, '0 tokens and 1 blocks'), ({}, 2, '1 tokens and 2 blocks')],
)
def test_cls_that_cannot_be_predicted(tokens, blocks, found):
    model, mask = neck('self-attention, CLS', num_extra_positions=0), random_mask(4, predict=3, blocks=blocks)
    context = build({**ENCODERS['sincos, CLS'], **tokens})(normalized(), mask)
    with pytest.raises(InputError, match=f'predict_cls needs .* there are {found}'):
        model(context, mask)


# ----------------------------------------------------------------------------------------------------------- proxies


def test_predictions_know_an_image_by_its_proxies_alone():
    model = neck('proxies, added')
    context, mask = neck_input('proxies, added')
    before, number = model(context, mask).patches, context.extra.shape[1]
    for state in context.hidden:
        state[:, number:] = torch.nan
    context.visible[:] = torch.nan
    torch.testing.assert_close(model(context, mask).patches, before)
    # Mask tokens see each other: with fewer of them predictions change.
    less = model(context, replace(mask, predict=mask.predict[..., :-1])).patches
    assert (less - before[:, :-1]).abs().max() > 1e-3
    context.hidden[0][0, 1] += torch.randn(DIM)
    after = model(context, mask).patches
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[1], before[1])


@pytest.mark.parametrize('name', ['proxies, added', 'proxies, rotary'])
def test_blocks_of_proxies_written_out(name):
    """Each reads the state that leaves the encoder's block of its index; coordinates turn queries and keys."""
    model = neck(name, out_dim=None)
    context, mask = neck_input(name)
    asked, number = context.positions(mask.flat_predict()), context.extra.shape[1]
    x, turn, both = model.mask_token + asked if model.rope is None else None, None, None
    if model.rope is not None:
        x = model.mask_token.expand(*asked.shape[:2], -1)
        proxies = model.rope.extra_codes(number, context.positions(mask.visible))
        turn, both = model.rope.rotation(asked), model.rope.rotation(torch.cat([proxies, asked], dim=1))
    for block, state in zip(model.blocks, context.hidden, strict=True):
        source = block.norm1(torch.cat([state[:, :number], x], dim=1))
        x = x + block.scale1(block.attn(block.norm1(x), turn, source, both))
        x = x + block.scale2(block.mlp(block.norm2(x)))
    torch.testing.assert_close(model(context, mask).patches, model.norm(x))


def test_proxy_blocks_are_blocks():
    model = neck('proxies, added', drop_path_rate=(0.0, 0.2))
    assert blocks_of(model) == list(model.blocks)
    assert [block.drop_path for block in model.blocks] == [0.0, 0.1, 0.2]
    own = {name for name, _ in ProxyBlock(DIM, 2, DIM).named_parameters()}
    assert own == {name for name, _ in Block(DIM, 2, DIM).named_parameters()}


@pytest.mark.parametrize(
    ('encoder', 'positions', 'message'),
    [
        ('learned, nothing but patches', 'added', 'needs an encoder with proxies: set model.backbone.num_cls_tokens'),
        ('learned, proxies', 'rope', "must be 'rope' if model.backbone.positions is"),
        ('rotary, proxies', 'added', "and 'added' if not"),
    ],
)
def test_encoders_that_do_not_fit(encoder, positions, message):
    model, mask = neck('proxies, added', positions=positions), random_mask(4)
    context = build(ENCODERS[encoder])(normalized(), mask, layers=model.layers)
    with pytest.raises(InputError, match=message):
        model(context, mask)
    with pytest.raises(InputError, match="positions must be 'added' or 'rope', got 'sincos'"):
        neck('proxies, added', positions='sincos')
