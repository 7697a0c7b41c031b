import math

import pytest
import torch
import torch.nn.functional as F

from mmmim.models.layers import (
    Attention,
    AxialRoPE,
    Block,
    PatchEmbed,
    RMSNorm,
    border_coordinates,
    frequency_table,
    grid_coordinates,
    patch_grid,
    residual,
    rotate,
    scale_to_bounding_box,
)
from mmmim.models.layers.norm import _RMSNorm
from mmmim.structures import PatchMask
from mmmim.utils import InputError


def test_grid_coordinates_span_the_unit_square_at_any_resolution():
    for grid in [(2, 3), (16, 16), (40, 5)]:
        coordinates = grid_coordinates(grid).view(*grid, 2)
        assert coordinates[0, 0].tolist() == [0, 0]
        assert coordinates[-1, -1].tolist() == [1, 1]
        assert coordinates[0, -1].tolist() == [0, 1]


def test_registers_walk_around_the_border():
    expected = [(0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5)]
    assert border_coordinates(8).tolist() == [list(point) for point in expected]
    assert border_coordinates(0).shape == (0, 2)
    with pytest.raises(InputError, match='multiple of 4'):
        border_coordinates(6)


def test_bounding_box_of_seen_tokens():
    points = torch.tensor([[[0.2, 0.4], [0.6, 0.5]], [[0.0, 0.0], [1.0, 1.0]]])
    box = scale_to_bounding_box(border_coordinates(4), points)
    torch.testing.assert_close(box[0], torch.tensor([[0.2, 0.4], [0.6, 0.4], [0.6, 0.5], [0.2, 0.5]]))
    torch.testing.assert_close(box[1], border_coordinates(4))


def test_frequency_table_of_the_recipe():
    table = frequency_table(64, 7.0, 7e-4)
    assert table.shape == (2, 64)
    torch.testing.assert_close(table[0, 0], torch.tensor(7 * 2 * math.pi))
    torch.testing.assert_close(table[0, 15], torch.tensor(7e-4 * 2 * math.pi))
    torch.testing.assert_close(table[0, :16], table[0, 16:32])
    assert not table[0, 32:].any()
    torch.testing.assert_close(table[1].roll(32), table[0])
    with pytest.raises(InputError, match='divisible by 4'):
        frequency_table(6, 7.0, 7e-4)


def test_rotation_pairs_channels_of_the_two_halves():
    rope, coordinates = AxialRoPE(8), torch.rand(2, 5, 2)
    x = torch.randn(2, 3, 5, 8)
    out = rotate(x, rope.rotation(coordinates))
    row, column = coordinates[1, 4]
    for i in range(4):
        row_angle, column_angle = row * rope.freqs[0, i], column * rope.freqs[1, i + 4]
        first, second = x[1, 2, 4, i], x[1, 2, 4, i + 4]
        torch.testing.assert_close(out[1, 2, 4, i], first * row_angle.cos() - second * row_angle.sin())
        torch.testing.assert_close(out[1, 2, 4, i + 4], second * column_angle.cos() + first * column_angle.sin())


def test_angles_stay_fp32_under_autocast():
    rope, coordinates = AxialRoPE(16), torch.rand(1, 7, 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cos, sin = rope.rotation(coordinates.bfloat16().float())
    plain = rope.rotation(coordinates.bfloat16().float())
    assert cos.dtype == sin.dtype == torch.float32
    torch.testing.assert_close(cos, plain[0], rtol=0, atol=0)


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


def test_patch_embedding_is_a_convolution_of_the_visible_patches():
    embed, images = PatchEmbed(4, 6), torch.randn(2, 3, 8, 12)
    expected = F.conv2d(images, embed.weight, embed.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), expected)
    mask = PatchMask(
        visible=torch.tensor([[0, 5], [2, 3], [1, 4], [0, 1]]),
        predict=torch.zeros(4, 1, 1, dtype=torch.long),
        image_index=torch.tensor([0, 0, 1, 1]),
        grid=(2, 3),
    )
    out = embed(images, mask)
    torch.testing.assert_close(out[1], expected[0, [2, 3]])
    torch.testing.assert_close(out[2], expected[1, [1, 4]])


def test_patch_size_that_does_not_divide():
    with pytest.raises(InputError, match=r'14 does not divide an image of 224 x 230 .* 224 x 224 or 224 x 238'):
        patch_grid((224, 230), 14)


def test_rms_norm():
    x = torch.randn(3, 5)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(RMSNorm(5, affine=False)(x), expected)
    norm = RMSNorm(5)
    norm.weight.data.fill_(2.0)
    torch.testing.assert_close(norm(x), 2 * expected)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_the_norm_of_a_cpu_is_torchs_in_values_and_gradients():
    torch.manual_seed(0)
    x, weight = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 5), (5,)))
    for w in (weight, None):
        torch.testing.assert_close(_RMSNorm.apply(x, w, 1e-5), F.rms_norm(x, (5,), w, 1e-5))
        assert torch.autograd.gradcheck(lambda x, w: _RMSNorm.apply(x, w, 1e-5), (x, w))
    norm, tokens = RMSNorm(5), torch.randn(2, 5).bfloat16()
    torch.testing.assert_close(norm(tokens), F.rms_norm(tokens.float(), (5,), norm.weight, 1e-5).bfloat16())


def test_the_gradient_of_the_rotation():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    # Columns turn by other angles than rows: the rotation is not orthogonal, its transpose not its inverse.
    cos, sin = (table.double() for table in AxialRoPE(8).rotation(torch.rand(2, 5, 2)))
    first, second = x.chunk(2, dim=-1)
    torch.testing.assert_close(rotate(x, (cos, sin)), x * cos + torch.cat([-second, first], dim=-1) * sin)
    assert torch.autograd.gradcheck(lambda x: rotate(x, (cos, sin)), x)


def test_heads_that_do_not_divide_the_width_of_a_model():
    from mmmim.models import CrossAttentionPredictor, ViT

    for build in (lambda: ViT(embed_dim=96, num_heads=5, depth=1), lambda: CrossAttentionPredictor(96, 96, 1, 5)):
        with pytest.raises(InputError, match='num_heads=5 does not divide the width 96'):
            build()


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(InputError, match='num_heads=5'):
        Attention(12, 5)
