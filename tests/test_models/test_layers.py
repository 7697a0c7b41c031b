"""Building blocks against their definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmmim.models.layers import (
    Attention,
    AxialRoPE,
    Block,
    PositionTable,
    RMSNorm,
    drop_path_rates,
    patch_grid,
    patchify,
    residual,
    rotate,
    sincos_positions,
    unpatchify,
)
from mmmim.models.layers.norm import _RMSNorm
from mmmim.utils import InputError

# ---------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(('grid', 'stretched'), [((2, 5), False), ((7, 1), True), ((3, 3), True)])
def test_sincos_positions_patch_by_patch(grid, stretched):
    for row in range(grid[0]):
        for column in range(grid[1]):
            places = [
                place * (side / max(side - 1, 1) if stretched else 1)
                for place, side in ((column, grid[1]), (row, grid[0]))
            ]
            expected = [
                wave(place / 10000 ** (j / 3)) for place in places for wave in (math.sin, math.cos) for j in range(3)
            ]
            actual = sincos_positions(grid, 12, stretched)[row * grid[1] + column]
            torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=1e-6)


def test_position_table_is_exact_on_its_grid_and_interpolated_off_it():
    table = PositionTable((4, 6), 8)
    assert torch.equal(table.codes((4, 6)), sincos_positions((4, 6), 8))
    assert list(table.parameters()) == []
    assert list(table.state_dict()) == ['weight']
    # One that holds the row and the column of each patch: each stays constant along the other.
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing='ij')
    table.weight = torch.stack([rows, columns], dim=-1).flatten(0, 1)
    row, column = table.codes((8, 12)).view(8, 12, 2).unbind(-1)
    torch.testing.assert_close(row, row[:, :1].expand(8, 12))
    torch.testing.assert_close(column, column[:1].expand(8, 12))
    assert (row[1:] > row[:-1]).all()
    torch.testing.assert_close(row[3:5, 0].mean(), torch.tensor(1.5))
    torch.testing.assert_close(column[0, 5:7].mean(), torch.tensor(2.5))


def test_interpolation_is_as_precise_as_fp32_in_a_bf16_model():
    table, exact = PositionTable((4, 6), 8).bfloat16(), PositionTable((4, 6), 8)
    exact.weight = table.weight.float()
    assert torch.equal(table.codes((5, 7)), exact.codes((5, 7)).bfloat16())


# ------------------------------------------------------------------------------------------------- blocks and patches


def test_rates_of_drop_path():
    assert drop_path_rates((0, 0.1), 3) == [0.0, 0.05, 0.1]
    assert drop_path_rates(0.2, 2) == [0.2, 0.2]
    assert drop_path_rates((0.1, 0.3), 1) == [0.1]
    for wrong in (1.0, -0.1, (0.1,), (0.0, 1.0)):
        with pytest.raises(InputError, match='drop_path_rate must be'):
            drop_path_rates(wrong, 3)


@pytest.mark.parametrize(('batch', 'drop_prob', 'kept'), [(10, 0.2, 8), (7, 0.5, 3), (3, 0.9, 1)])
def test_stochastic_depth_computes_an_exact_number_of_samples(batch, drop_prob, kept):
    seen = []

    def branch(x, pair, shared, nothing):
        seen.append(len(x))
        assert len(pair[0]) == len(x)
        assert len(shared) == 1
        assert nothing is None
        torch.testing.assert_close(pair[0], x)
        return torch.ones_like(x)

    x = torch.randn(batch, 2, 4)
    out = residual(branch, x, (x,), torch.zeros(1, 2), None, drop_prob=drop_prob)
    assert seen == [kept]
    change = (out - x)[:, 0, 0]
    assert (change != 0).sum() == kept
    torch.testing.assert_close(change[change != 0], torch.full((kept,), batch / kept))


def test_stochastic_depth_draws_a_subset_for_each_branch_and_is_off_in_eval():
    torch.manual_seed(0)
    block, x = Block(8, 2, drop_path=0.5).train(), torch.randn(64, 3, 8)
    attended = residual(block._attend, x, None, None, None)
    out = block(x)
    untouched = ((out - x).abs().amax((1, 2)) == 0).float().mean()
    assert 0.1 < untouched < 0.4  # 0.25 if drawn twice, 0.5 if once
    block.eval()
    torch.testing.assert_close(block(x), residual(block._transform, attended))


def test_patch_size_that_does_not_divide():
    with pytest.raises(InputError, match=r'14 does not divide an image of 224 x 230 .* 224 x 224 or 224 x 238'):
        patch_grid((224, 230), 14)


def test_rms_norm():
    torch.manual_seed(0)
    x, weight = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 5), (5,)))
    for w in (weight, None):
        expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * (1 if w is None else w)
        torch.testing.assert_close(_RMSNorm.apply(x, w, 1e-5), expected)
        assert torch.autograd.gradcheck(lambda x, w: _RMSNorm.apply(x, w, 1e-5), (x, w))
    norm, tokens = RMSNorm(5), torch.randn(2, 5).bfloat16()
    norm.weight.data.fill_(2.0)
    torch.testing.assert_close(norm(tokens), F.rms_norm(tokens.float(), (5,), norm.weight, 1e-5).bfloat16())
    torch.testing.assert_close(2 * RMSNorm(5, affine=False)(tokens.float()), norm(tokens.float()))


def test_the_gradient_of_the_rotation():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    # Columns turn by other angles than rows: the rotation is not orthogonal, its transpose not its inverse.
    cos, sin = (table.double() for table in AxialRoPE(8).rotation(torch.rand(2, 5, 2)))
    first, second = x.chunk(2, dim=-1)
    torch.testing.assert_close(rotate(x, (cos, sin)), x * cos + torch.cat([-second, first], dim=-1) * sin)
    assert torch.autograd.gradcheck(lambda x: rotate(x, (cos, sin)), x)


@pytest.mark.parametrize('kind', ['cross', 'rotated'])
def test_attention_weights(kind):
    torch.manual_seed(0)
    layer, x = Attention(16, 2, 8 if kind == 'cross' else None), torch.randn(2, 5, 16)
    context = torch.randn(2, 7, 8) if kind == 'cross' else None
    rotation = AxialRoPE(8).rotation(torch.rand(2, 5, 2)) if kind == 'rotated' else None
    weights = layer.weights(x, rotation, context=context)
    assert weights.shape == (2, 2, 5, 7 if kind == 'cross' else 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5))
    values = layer.v_proj(x if context is None else context).unflatten(-1, (2, -1)).transpose(1, 2)
    found = layer.proj((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, layer(x, rotation, context=context))


def test_unpatchify_is_the_inverse_of_patchify():
    images = torch.randn(2, 5, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), (2, 3), 5), images)
