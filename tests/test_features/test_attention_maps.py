import weakref

import pytest
import torch

from mmmim.features.attention_maps import (
    attention_distance,
    attention_maps,
    projection,
    self_attentions,
    visit_attention,
)
from mmmim.models import MMPretrainEncoder, TimmEncoder, ViT
from mmmim.utils import InputError
from tests.toys import CAPI_STYLE

STYLES = {
    'rotary positions and registers': {**CAPI_STYLE, 'num_cls_tokens': 0, 'num_registers': 4},
    'several CLS and registers': {'num_cls_tokens': 3, 'num_registers': 2, 'positions': 'learnable'},
    'no extra tokens': {'num_cls_tokens': 0},
    'mask tokens': {'fused': True},
}


def encoder(**options):
    torch.manual_seed(0)
    return ViT(img_size=(16, 12), patch_size=4, embed_dim=24, depth=3, num_heads=3, **options)


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('style', STYLES)
def test_maps_times_values_are_what_the_attention_returns(images, style):
    backbone = encoder(**STYLES[style])
    inputs, outputs = [], []
    for module in self_attentions(backbone):
        module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        module.register_forward_hook(lambda *args: outputs.append(args[-1]))
    # Weights as after training, so that no row is uniform.
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    maps = attention_maps(backbone, images, [0, 1, -1])
    tokens = 12 + backbone.num_extra_tokens
    assert len(outputs) == 3
    for module, x, expected, attention in zip(self_attentions(backbone), inputs, outputs, maps, strict=True):
        assert attention.shape == (2, 3, tokens, tokens)
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 3, tokens), rtol=0, atol=1e-6)
        assert attention.std(dim=-1).max() > 0.01
        values = module.v_proj(x).unflatten(-1, (3, 8)).transpose(1, 2)
        found = module.proj((attention @ values).transpose(1, 2).flatten(2))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_the_encoder_stays_as_it_is(images):
    backbone = encoder(drop_path_rate=0.5)
    before = backbone.eval()(images).visible
    backbone.train()
    layers, alive, most = [], [], []

    def visit(layer, attention):
        layers.append(layer)
        alive.append(weakref.ref(attention))
        most.append(sum(one() is not None for one in alive))

    context = visit_attention(backbone, images, visit)
    assert layers == [0, 1, 2]
    assert most == [1, 1, 1]  # one map at a time
    assert torch.equal(context.visible, before)
    assert not context.visible.requires_grad
    assert backbone.training
    backbone.eval()(images)
    assert layers == [0, 1, 2]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def test_layers_in_the_order_asked_for(images):
    backbone = encoder()
    first, last, again = attention_maps(backbone, images, [0, -1, 0])
    assert torch.equal(first, again)
    assert not torch.equal(first, last)
    with pytest.raises(InputError, match='There is no block 3 in an encoder of 3'):
        attention_maps(backbone, images, [3])


TINY = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': 32}
ARCH = {'embed_dims': 24, 'num_layers': 2, 'num_heads': 3, 'feedforward_channels': 48}
FOREIGN = {
    'plain': lambda: TimmEncoder('vit_tiny_patch16_224', **TINY),
    'norms of keys': lambda: TimmEncoder('vit_tiny_patch16_224', qk_norm=True, **TINY),
    'registers': lambda: TimmEncoder('vit_small_patch14_reg4_dinov2', **{**TINY, 'img_size': 28}),
    'relative positions': lambda: TimmEncoder('beit_base_patch16_224', **TINY),
    'no CLS': lambda: TimmEncoder('aimv2_large_patch14_224', **{**TINY, 'img_size': 28}),  # AIM's second version
    'rotary positions': lambda: TimmEncoder('eva02_tiny_patch14_224', **{**TINY, 'img_size': 28}),
    'mmpretrain': lambda: MMPretrainEncoder('VisionTransformer', arch=ARCH, img_size=32, patch_size=16),
    'relative positions of mmpretrain': lambda: MMPretrainEncoder('BEiTViT', arch=ARCH, img_size=32, patch_size=16),
}


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('name', FOREIGN)
def test_maps_of_encoders_of_other_libraries(name, fused):
    """Maps times values are what their attention hands to its last layer, whichever way it computes."""
    torch.manual_seed(0)
    backbone = FOREIGN[name]()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs, handed_on = [], []
    for module in self_attentions(backbone):
        if hasattr(module, 'fused_attn'):
            module.fused_attn = fused
        module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        module.proj.register_forward_pre_hook(lambda _, args: handed_on.append(args[0]))
    images = torch.randn(2, 3, *(side * backbone.patch_size for side in backbone.grid))
    maps = attention_maps(backbone, images, [0, 1])
    tokens = backbone.num_extra_tokens + backbone.grid[0] * backbone.grid[1]
    # Copies, as projections encode once more.
    for layer, (x, expected, attention) in enumerate(zip([*inputs], [*handed_on], maps, strict=True)):
        assert attention.shape == (2, 3, tokens, tokens)
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 3, tokens), rtol=0, atol=1e-6)
        assert attention.std(dim=-1).max() > 0.01
        values = projection(backbone, images, 'values', layer).unflatten(-1, (3, 8)).transpose(1, 2)
        found = (attention @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
        weight = self_attentions(backbone)[layer].qkv.weight
        for place, kind in enumerate(('queries', 'keys')):
            made = projection(backbone, images, kind, layer) - x @ weight[24 * place : 24 * place + 24].T
            assert made.flatten(0, 1).std(dim=0).max() < 1e-4  # but for the bias, which is the same everywhere


def test_encoders_that_cannot_be_looked_at(images):
    """Their blocks have no attention, or none by softmax, or no layer for keys."""
    backbone = TimmEncoder('vit_tiny_patch16_224', **TINY)
    backbone.blocks[1].attn.forward = lambda x, **options: x
    picture = torch.randn(1, 3, 32, 32)
    with pytest.raises(InputError, match='There are no attention maps of Attention, the attention of block 1'):
        attention_maps(backbone, picture, [1])
    with pytest.raises(InputError, match=r'There are no keys of Attention, the attention of block 1: it has no layer'):
        projection(backbone, picture, 'keys')
    del backbone.blocks[1].attn
    with pytest.raises(InputError, match='VisionTransformer have no self-attention of their own'):
        self_attentions(backbone)


def test_distance_of_known_attention():
    grid, patch, extra = (2, 3), 16, 2
    right = torch.zeros(6, 6)
    for row in range(2):
        for column in range(3):
            neighbour = column + 1 if column < 2 else column - 1
            right[3 * row + column, 3 * row + neighbour] = 1
    down = torch.eye(6).roll(3, dims=0)
    corner = torch.zeros(6, 6)
    corner[:, 0] = 1
    heads = [torch.full((6, 6), 1 / 6), torch.eye(6), right, down, corner, torch.zeros(6, 6)]
    # Half of the attention goes to the extra tokens, and all of it in the last head.
    attention = torch.rand(1, len(heads), 8, 8, generator=torch.Generator().manual_seed(0))
    for head, values in enumerate(heads):
        attention[0, head, extra:, extra:] = values / 2
    two, diagonal, long = 2**0.5, 5**0.5, 2.0
    # Of a corner, and of a patch in the middle of a side: distances to all six patches.
    in_corner, in_middle = 1 + long + 1 + two + diagonal, 2 + 1 + 2 * two
    uniform = 16 * (4 * in_corner + 2 * in_middle) / 36
    expected = torch.tensor([[uniform, 0.0, 16.0, 16.0, 16 * in_corner / 6, 0.0]])
    both = attention_distance(torch.cat([attention, attention.flip(1)]), grid, patch, extra)
    torch.testing.assert_close(both, torch.cat([expected, expected.flip(1)]))
