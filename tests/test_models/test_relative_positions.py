"""Relative positions: the bias pair by pair, where it reaches, and what is drawn in attention with dropout."""

import pytest
import torch

from mmmim.cost.flop_counter import make_flop_counter
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.features.attention_maps import attention_maps
from mmmim.models import ViT
from mmmim.models.layers import Attention, Block, RelativePositions, last_block, resampled_table, set_checkpointing
from mmmim.utils import InputError
from tests.registered import ENCODERS, build
from tests.toys import random_mask

HEADS, EXTRA = 3, 2


def positions(grid=(2, 3)):
    torch.manual_seed(0)
    module = RelativePositions(grid, HEADS)
    module.table.data.normal_()
    return module


def by_pairs(table, grid, patches, extra):
    """The definition, one pair at a time: ``[heads, E + V, E + V]``."""
    height, width = grid
    tokens = [None] * extra + [divmod(int(patch), width) for patch in patches]
    out = torch.empty(table.shape[1], len(tokens), len(tokens))
    for i, query in enumerate(tokens):
        for j, key in enumerate(tokens):
            if query is None or key is None:
                row = len(table) - (3 if key is not None else 2 if query is not None else 1)
            else:
                row = (query[0] - key[0] + height - 1) * (2 * width - 1) + query[1] - key[1] + width - 1
            out[:, i, j] = table[row]
    return out


@pytest.mark.parametrize('extra', [0, 1, EXTRA])
@pytest.mark.parametrize('grid', [(2, 3), (4, 1)])
def test_the_bias_pair_by_pair(grid, extra):
    module = positions(grid)
    number = grid[0] * grid[1]
    (whole,) = module.bias(grid, None, extra)
    assert torch.equal(whole, by_pairs(module.table, grid, range(number), extra))
    seen = torch.tensor([[0, 2, number - 1], [number - 2, 1, 0]])
    for bias, patches in zip(module.bias(grid, seen, extra), seen, strict=True):
        assert torch.equal(bias, by_pairs(module.table, grid, patches, extra))


def test_another_grid():
    """Interpolated by distance: none stays none, and what does not depend on a side stays so."""
    module = positions((3, 4))
    assert torch.equal(resampled_table(module.table, (3, 4), (3, 4)), module.table)
    down = torch.arange(-2.0, 3).view(5, 1, 1).expand(5, 7, HEADS).flatten(0, 1)
    module.table.data[:-3] = down
    table = resampled_table(module.table, (3, 4), (5, 6))
    assert torch.equal(table[-3:], module.table[-3:])
    places = table[:-3].view(9, 11, HEADS)
    torch.testing.assert_close(places, places[:, :1, :1].expand_as(places))
    torch.testing.assert_close(places[4], torch.zeros(11, HEADS))
    torch.testing.assert_close(places.flip(0), -places)
    assert (places[1:, 0, 0].diff() > 0).all()
    assert torch.equal(module.bias((5, 6), None, 0)[0], by_pairs(table, (5, 6), range(30), 0))
    half = positions((3, 4)).bfloat16()
    exact = resampled_table(half.table.float(), (3, 4), (5, 6)).bfloat16()
    assert torch.equal(resampled_table(half.table, (3, 4), (5, 6)), exact)


def test_attention_adds_it_to_scaled_products():
    torch.manual_seed(0)
    attention, x, bias = Attention(12, HEADS), torch.randn(2, 5, 12), torch.randn(1, HEADS, 5, 5)
    q, k, v = (
        layer(x).view(2, 5, HEADS, 4).transpose(1, 2)
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    weights = (q @ k.mT / 2 + bias).softmax(dim=-1)
    torch.testing.assert_close(attention.weights(x, bias=bias), weights)
    torch.testing.assert_close(attention(x, bias=bias), attention.proj((weights @ v).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize('rows', [1, 3])
@pytest.mark.parametrize('tokens', [[[4, 0, 2]], [[4, 0], [1, 2], [3, 3]]])
def test_a_block_for_some_tokens(tokens, rows):
    torch.manual_seed(0)
    tokens = torch.tensor(tokens)
    block, x, bias = Block(12, HEADS), torch.randn(3, 5, 12), torch.randn(rows, HEADS, 5, 5, requires_grad=True)
    results = []
    for whole in (True, False):
        block.whole, bias.grad = whole, None
        out = last_block(block, x, tokens=tokens, bias=bias)
        out.square().sum().backward()
        results.append((out.detach(), bias.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    assert results[0][1].abs().max() > 1e-3


@pytest.mark.parametrize('kind', ['relative, mask tokens', 'relative, registers'])
def test_all_blocks_share_one_bias(kind):
    """Maps of attention that are made beside show it, and it reaches the table from every token."""
    model, images = build(ENCODERS[kind]).eval(), torch.randn(2, 3, 16, 16)
    table = model.positions.table
    before = attention_maps(model, images, range(3))
    model(images).visible.square().sum().backward()
    assert (table.grad.abs().sum(dim=1) > 0).all()
    table.data[-3] = 50.0  # extra tokens look at patches, and hardly at themselves
    number = model.num_extra_tokens
    for maps, old in zip(attention_maps(model, images, range(3)), before, strict=True):
        assert (maps[:, :, :number, :number].sum(dim=-1) < 1e-6).all()
        assert (old[:, :, :number, :number].sum(dim=-1) > 1e-2).all()
    mask = random_mask(2, predict=4)
    read = model(images, mask, reads='extra').extra
    torch.testing.assert_close(read, model(images, mask).extra)
    table.data[:-3] = 0
    for knows_places in (False, True):
        moved, tokens = model(images.roll(4, dims=3)).visible, model(images).visible
        difference = (moved - tokens.unflatten(1, (4, 4)).roll(1, dims=2).flatten(1, 2)).abs().max()
        assert (difference > 0.01) == knows_places
        table.data.normal_()


def test_it_decays_like_the_head_and_by_two_axes():
    model = ViT(16, 4, 16, 3, 2, positions='relative_shared')
    assert model.get_layer_depth('backbone.positions.table', 'backbone.') == (4, 5)
    rules = {'no_decay': {'match': r'bias$|norm|extra_tokens', 'decay_mult': 0.0}}
    (own,) = [
        group
        for group in parameter_groups(model, 1.0, 0.1, rules, layer_decay=0.5)
        if any(p is model.positions.table for p in group['params'])
    ]
    assert (own['lr'], own['weight_decay']) == (1.0, 0.1)
    with pytest.raises(InputError, match='Relative positions have no vectors for extra tokens'):
        ViT(16, 4, 16, 3, 2, positions='relative_shared', extra_positions=True)


# ----------------------------------------------------------------------------------------------------------- dropout


def with_dropout(mode, drop_path=0.0, seed=0):
    """Output of a block in training, and its gradients."""
    torch.manual_seed(0)
    block, bias = Block(12, HEADS, attn_drop=0.4, drop_path=drop_path).train(), torch.randn(1, HEADS, 5, 5)
    x = torch.randn(6, 5, 12, requires_grad=True)
    set_checkpointing(block, mode)
    torch.manual_seed(seed)
    out = block(x, bias=bias.requires_grad_())
    after = torch.rand(1)  # what comes next draws the same, and what is computed again does not move it
    out.square().sum().backward()
    return [out.detach(), after, torch.rand(1), x.grad, bias.grad, *(p.grad for p in block.parameters())]


@pytest.mark.parametrize('drop_path', [0.0, 0.3])
@pytest.mark.parametrize('mode', ['selective', 'full'])
def test_what_is_dropped_is_dropped_again_in_the_backward_pass(mode, drop_path):
    expected = with_dropout(None, drop_path)
    for one, other in zip(with_dropout(mode, drop_path), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(with_dropout(mode, drop_path, seed=1)[0], expected[0])


def test_dropped_shares():
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.25)
    attention.v_proj.weight.data = attention.proj.weight.data = torch.eye(8)
    # All weights are equal and all values 1: an output is the share of tokens that stay, over its expectation.
    attention.q_proj.weight.data.zero_()
    out = attention.train()(torch.ones(50, 40, 8)).detach()
    assert out.mean() == pytest.approx(1, abs=0.01)
    assert out.std() == pytest.approx((0.25 / 0.75 / 40) ** 0.5, rel=0.1)
    torch.testing.assert_close(attention.eval()(torch.ones(2, 40, 8)), torch.ones(2, 40, 8))


def test_flops_are_those_of_attention_without_bias():
    counts = []
    for kind in ('relative_shared', 'sincos'):
        model = ViT(16, 4, 16, 2, 2, positions=kind)
        with make_flop_counter() as counter, torch.no_grad():
            model(torch.randn(2, 3, 16, 16))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]
