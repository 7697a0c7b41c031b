"""Parts of data2vec 2.0 against their definitions: norms after sums, and the decoder of convolutions."""

import pytest
import torch
import torch.nn.functional as F

from mmmim.models import ConvolutionalDecoder, ViT
from mmmim.models.layers import Block, last_block
from mmmim.structures import Context
from mmmim.utils import InputError
from tests.toys import random_mask


def test_norms_after_sums():
    torch.manual_seed(0)
    block, x = Block(12, 3, post_norm=True, norm=torch.nn.LayerNorm), torch.randn(2, 5, 12)
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
    attended = block.norm1(x + block.attn(x))
    branch = block.mlp(attended)
    torch.testing.assert_close(block(x), block.norm2(attended + branch))
    out, found = block(x, with_mlp=True)
    torch.testing.assert_close((out, found), (block(x), branch))
    tokens = torch.tensor([[3, 0]])
    expected = block(x)[:, tokens[0]], branch[:, tokens[0]]
    for whole in (True, False):
        block.whole = whole
        torch.testing.assert_close(last_block(block, x, tokens=tokens, with_mlp=True), expected)


def test_what_a_branch_adds_where_samples_skip_it():
    torch.manual_seed(0)
    block, x = Block(12, 3, drop_path=0.5).train(), torch.randn(8, 5, 12)
    _, branch = block(x, with_mlp=True)
    skipped = branch.abs().amax((1, 2)) < 1e-6
    assert skipped.sum() == 4


def test_a_norm_before_the_first_block():
    torch.manual_seed(0)
    model = ViT(16, 4, 16, 1, 2, post_norm=True, embedding_norm=True, final_norm=False, init='data2vec2')
    torch.nn.init.normal_(model.embedding_norm.weight)
    images = torch.randn(2, 3, 16, 16)
    tokens = model.patch_embed(images) + model.positions.weight
    x = model.embedding_norm(torch.cat([model.extra_tokens.expand(2, -1, -1), tokens], dim=1))
    context = model(images)
    torch.testing.assert_close(torch.cat([context.extra, context.visible], dim=1), model.blocks[0](x))
    assert model.get_layer_depth('embedding_norm.weight')[0] == 0


def context_of(mask, dim):
    tokens = torch.randn(mask.num_masks, mask.visible.shape[1], dim)
    return Context(tokens, torch.randn(mask.num_masks, 1, dim), mask.grid, None, num_cls_tokens=1)


@pytest.mark.parametrize(('dim', 'width', 'kernel', 'groups'), [(8, 8, 3, 4), (8, 12, 5, 2)])
def test_convolutions_over_the_grid(dim, width, kernel, groups):
    torch.manual_seed(0)
    mask = random_mask(2, per_image=2, grid=(3, 5))
    context = context_of(mask, dim)
    decoder = ConvolutionalDecoder(dim, width, 2, kernel, groups, out_dim=dim, noise_std=0.5)
    noise = torch.randn(4, 15, dim)
    decoder.noise = lambda like, number: noise
    x = noise.clone()
    for g in range(4):
        x[g, mask.visible[g]] = context.visible[g]
    x = x.transpose(1, 2).reshape(4, dim, 3, 5)
    for i, layer in enumerate(decoder.convolutions):
        out = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=kernel // 2, groups=groups)
        mean, variance = out.mean(1, keepdim=True), out.var(1, keepdim=True, correction=0)
        out = F.gelu((out - mean) / (variance + 1e-5).sqrt())
        x = out if i == 0 and width != dim else x + out
    every = decoder.proj(x.flatten(2).transpose(1, 2))
    expected = torch.stack([every[g, index] for g, index in enumerate(mask.flat_predict())])
    prediction = decoder(context, mask)
    torch.testing.assert_close(prediction.patches, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(prediction.cls, context.extra[:, 0])


def test_the_noise_is_new_every_time():
    torch.manual_seed(0)
    decoder, like = ConvolutionalDecoder(16, 16, 1, out_dim=16, noise_std=0.3), torch.zeros(50, 3, 16)
    one, other = decoder.noise(like, 20), decoder.noise(like, 20)
    assert one.shape == (50, 20, 16)
    assert one.std() == pytest.approx(0.3, rel=0.05)
    assert not torch.equal(one, other)
    assert not ConvolutionalDecoder(16, 16, 1, out_dim=16, noise_std=0.0).noise(like, 20).any()


def test_decoders_that_cannot_be():
    with pytest.raises(InputError, match='kernel=4: an even kernel has no middle'):
        ConvolutionalDecoder(kernel=4)
    with pytest.raises(InputError, match='groups=16 does not divide embed_dim=24'):
        ConvolutionalDecoder(768, 24)
    with pytest.raises(InputError, match='out_dim=8 must be context_dim=16 where CLS'):
        ConvolutionalDecoder(16, 16, out_dim=8)
    mask = random_mask(2)
    context = context_of(mask, 16)
    context.num_cls_tokens = 0
    with pytest.raises(InputError, match=r'model\.backbone has no CLS'):
        ConvolutionalDecoder(16, 16, 1, out_dim=16)(context, mask)
    assert ConvolutionalDecoder(16, 16, 1, predict_cls=False)(context, mask).cls is None
