"""The last block of a chain runs for the tokens that are read, and nothing else changes."""

import pytest
import torch
from torch.testing import assert_close

from mmmim.cost.flop_counter import make_flop_counter
from mmmim.models.interfaces import most_read
from mmmim.models.layers import AxialRoPE, Block, DecoderBlock, blocks_of, last_block, set_checkpointing
from mmmim.models.layers.block import pick
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.registered import METHODS, losses_of, method_batch, method_config

SHARED, OWN = torch.tensor([[4, 0, 2]]), torch.tensor([[4, 0], [1, 2], [3, 3]])


def loss_and_gradients(name, everything, checkpointing=None):
    """Of a method whose last blocks run for all tokens, or for those that are read; with stochastic depth."""
    torch.manual_seed(0)
    model = MODELS.build(method_config(name)).train()
    set_checkpointing(model, checkpointing)
    if everything:
        model.reads = 'all'
    for block in blocks_of(model):
        block.whole = everything
        if hasattr(block, 'drop_path'):
            block.drop_path = 0.3
            block.attn.dropout = 0.0  # which draws for every pair of tokens, and so differently for fewer
    with make_flop_counter() as counter:
        losses = losses_of(model, method_batch(name))
        sum(losses.values()).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, counter.get_total_flops()


@pytest.mark.parametrize('checkpointing', [None, 'selective', 'full'])
@pytest.mark.parametrize('name', METHODS)
def test_methods_do_not_change(name, checkpointing):
    losses, gradients, flops = loss_and_gradients(name, False, checkpointing)
    expected, expected_gradients, all_flops = loss_and_gradients(name, True, checkpointing)
    assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    assert_close(gradients, expected_gradients, rtol=1e-4, atol=5e-6)
    assert flops <= all_flops


@pytest.mark.parametrize('name', [name for name in METHODS if 'capi' not in name and name.endswith('small')])
def test_there_is_less_to_do(name):
    saved = loss_and_gradients(name, False)[2] < loss_and_gradients(name, True)[2]
    # Of decoders that predict each patch on its own, by cross-attention or a linear layer, everything is read, but for
    # CLS of Latent MIM's; so it is of convolutions, and where CLS and all patches are projected.
    everything = ('latent_mim/', 'crossmae/', 'data2vec2/', 'conmim/', 'distillation/milan')
    assert saved != name.startswith(everything)


@pytest.mark.parametrize('tokens', [SHARED, OWN])
@pytest.mark.parametrize('rotary', [False, True])
def test_a_block_for_some_tokens(tokens, rotary):
    torch.manual_seed(0)
    block, x = Block(16, 2), torch.randn(3, 5, 16)
    rotation = AxialRoPE(8).rotation(torch.rand(3, 5, 2)) if rotary else None
    expected = pick(block(x, rotation), tokens)
    assert expected.shape == (3, tokens.shape[1], 16)
    assert_close(block(x, rotation, tokens=tokens), expected)
    block.whole = True
    assert torch.equal(last_block(block, x, rotation, tokens=tokens), expected)


@pytest.mark.parametrize('tokens', [SHARED, OWN])
def test_a_decoder_block_for_some_tokens(tokens):
    torch.manual_seed(0)
    block, x, context = DecoderBlock(16, 2, 4.0, torch.nn.LayerNorm), torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    assert_close(block(x, context, tokens), pick(block(x, context), tokens))


@pytest.mark.parametrize('tokens', [SHARED, OWN])
@pytest.mark.parametrize('rows', [1, 3])
def test_pick(tokens, rows):
    x = torch.randn(rows, 5, 2)
    index = tokens.expand(max(rows, len(tokens)), -1)
    assert torch.equal(pick(x, tokens), torch.stack([x[i % rows][row] for i, row in enumerate(index)]))


def test_predicted_patches_need_mask_tokens():
    data = method_batch('mae/small')
    model = MODELS.build(method_config('mae/small'))
    with pytest.raises(InputError, match=r'model\.backbone\.fused=True'):
        model.backbone(data['inputs'].float(), data['mask'], reads='predicted')


def test_a_neck_says_what_it_reads():
    assert most_read([]) == 'extra'
    assert most_read(['extra', 'predicted']) == 'predicted'
    with pytest.raises(InputError, match="one of extra, predicted, all, got 'cls'"):
        most_read(['all', 'cls'])
