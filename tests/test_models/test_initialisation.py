"""How weights are drawn: every scheme in every kind of layer."""

import math

import pytest
import torch
from torch import nn

from mmmim.models import CrossAttentionDecoder, CrossAttentionPredictor, SelfAttentionPredictor, ViT
from mmmim.models.layers import Attention, Block, PatchEmbed
from mmmim.models.layers.init import SCHEMES
from mmmim.utils import InputError


def models(scheme):
    """One of every kind of layer, attention and token."""
    torch.manual_seed(0)
    return {
        'encoder': ViT(32, 8, 96, 3, 4, positions='learnable', projector_dims=(120, 80), init=scheme),
        'self-attention': SelfAttentionPredictor(96, 64, 3, 4, out_dim=48, grid=(4, 4), init=scheme),
        'cross-attention': CrossAttentionPredictor(96, 64, 2, 4, bias=True, qkv_bias=True, init=scheme),
        'decoder': CrossAttentionDecoder(96, 64, 2, 4, init=scheme),
    }


def spread(scheme, layer, attention, number):
    """Of a layer's weights: their standard deviation, and their bounds in units of it.

    ``attention`` is that whose queries, keys or values it makes, ``number`` that of the block whose branch it ends.
    """
    normal, uniform = (3, 6), (0.97 * math.sqrt(3), 1.00001 * math.sqrt(3))
    scale = 1 / math.sqrt(2 * number) if number else 1
    if scheme.startswith('trunc_normal'):
        return 0.02 * (scale if scheme.endswith('rescaled') else 1), normal
    if scheme == 'beit':  # of a normal distribution between -1 and 1 the standard deviation is 0.5396
        return 0.5396 * 0.02 * scale, (0.97 / 0.5396, 1.00001 / 0.5396)
    if scheme == 'data2vec2' and isinstance(layer, nn.Linear):
        return 0.02, normal
    inputs, outputs = layer.weight[0].numel(), layer.weight.shape[0]
    if scheme == 'torch':
        return 1 / math.sqrt(3 * inputs), uniform
    if scheme != 'capi' and attention is not None:
        # Layers that read the same tokens count as one.
        outputs *= (1 if layer is attention.q_proj else 2) if attention.is_cross else 3
    return math.sqrt(2 / (inputs + outputs)), uniform


@pytest.mark.parametrize('scheme', SCHEMES)
def test_weights_and_biases(scheme):
    checked = 0
    for kind, model in models(scheme).items():
        readers = {
            layer: module
            for module in model.modules()
            if isinstance(module, Attention)
            for layer in (module.q_proj, module.k_proj, module.v_proj)
        }
        blocks = enumerate((module for module in model.modules() if isinstance(module, Block)), start=1)
        ends = {layer: number for number, block in blocks for layer in (block.attn.proj, block.mlp.fc2)}
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | PatchEmbed):
                size, (least, most) = spread(scheme, layer, readers.get(layer), ends.get(layer))
                weight, what = layer.weight.detach().double(), f'{kind}: {name}'
                assert weight.std().item() == pytest.approx(size, rel=0.05), what
                assert abs(weight.mean().item()) < 5 * size / math.sqrt(weight.numel()), what
                largest = weight.abs().max().item() / size
                assert least < largest < most, what
                drawn = scheme == 'torch' or (isinstance(layer, PatchEmbed) and scheme in ('capi', 'mae', 'data2vec2'))
                bias = getattr(layer, 'bias', None)
                if bias is not None:
                    assert bias.abs().max() <= 1 / math.sqrt(layer.weight[0].numel())
                    assert bool(bias.any()) == drawn, what
                checked += 1
            elif isinstance(layer, nn.LayerNorm):
                assert (layer.weight == 1).all()
                assert not layer.bias.any()
    assert checked == (3 * 6 + 1 + 3) + (3 * 6 + 2) + 2 * 6 + (2 * 10 + 2)


def test_tokens_and_positions():
    found = models('mae')
    tokens = [found['encoder'].extra_tokens, found['encoder'].positions.weight, found['decoder'].cls_token]
    tokens += [found[kind].mask_token for kind in ('self-attention', 'cross-attention')]
    for token in tokens:
        assert token.requires_grad
        assert token.std().item() == pytest.approx(0.02, rel=0.3)
    assert not found['decoder'].mask_token.any()
    for scheme, std in (('beit', 0.5396 * 0.02), ('data2vec2', 1.0)):
        encoder = ViT(32, 8, 96, 1, 4, fused=True, init=scheme)
        for token in (encoder.extra_tokens, encoder.mask_token):
            assert token.std().item() == pytest.approx(std, rel=0.3)
            assert (token.abs().max() <= 0.02) == (scheme == 'beit')
    with pytest.raises(InputError, match=r'init must be one of .*trunc_normal, trunc_normal_rescaled, .*, got'):
        ViT(init='trunc')
