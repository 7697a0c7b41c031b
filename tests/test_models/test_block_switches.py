"""What checkpointing keeps, how often blocks are compiled, and what cannot be."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmim.engine.compile import compile_model
from mmmim.models.layers import AxialRoPE, Block, blocks_of, compile_blocks, set_checkpointing
from mmmim.models.layers import block as block_module
from mmmim.utils import InputError
from tests.registered import build, losses_of, method_batch, method_config


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


METHOD = 'capi/small'


class Made(TorchDispatchMode):
    """Notes every storage that operations make."""

    def __init__(self):
        super().__init__()
        self.storages = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [value.untyped_storage() for value in tree_leaves(out) if isinstance(value, torch.Tensor)]
        self.storages += [(StorageWeakRef(storage), storage.nbytes()) for storage in made]
        return out

    def alive(self, model):
        """Bytes of those that are still there; views of weights are none of them."""
        weights = {StorageWeakRef(p.untyped_storage()).cdata for p in model.parameters()}
        sizes = {ref.cdata: size for ref, size in self.storages if not ref.expired()}
        return sum(size for cdata, size in sizes.items() if cdata not in weights)


def test_checkpointing_keeps_less():
    torch.manual_seed(0)
    block = Block(32, 4, drop_path=0.1).train()
    x = torch.randn(10, 16, 32, requires_grad=True)
    rotation = AxialRoPE(8).rotation(torch.rand(10, 16, 2))
    kept = {}
    for mode in (None, 'selective', 'full'):
        set_checkpointing(block, mode)
        with Made() as made:
            out = block(x, rotation)
            kept[mode] = made.alive(block) / (x.numel() * 4)
        out.sum().backward()
    # In units of a token tensor; the output is one of them. The rest of 'full' are indices.
    assert kept['full'] < 1.2
    # Queries, keys, values, attention, its projection and the two layers of the MLP (4 and 1), for 9 of 10 samples.
    assert 9 < kept['selective'] < 11
    assert kept[None] > 1.4 * kept['selective']


def test_gelu_computed_again_keeps_less(monkeypatch):
    """Of a large result of GELU, and everything else is bit for bit the same."""
    results, kept = [], []
    for large in (0, 10**9):
        monkeypatch.setattr(block_module, 'LARGE', large)
        torch.manual_seed(0)
        block, x = Block(32, 4).train(), torch.randn(10, 16, 32, requires_grad=True)
        with Made() as made:
            out = block(x)
            kept.append(made.alive(block) / (x.numel() * 4))
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in block.parameters())])
    assert_close(*results, rtol=0, atol=0)
    assert kept[1] - kept[0] == 4  # token tensors: the width of the MLP's middle


def test_blocks_compile_once():
    """One graph per kind of block (student, predictor, teacher), whole, and none in later steps."""
    model = build(method_config(METHOD, activation_checkpointing='selective')).train()
    names, counter = list(model.state_dict()), CompileCounterWithBackend('eager')
    compile_blocks(model, backend=counter, fullgraph=True)
    assert list(model.state_dict()) == names
    for seed in (5, 6):
        sum(losses_of(model, method_batch(METHOD, 8, seed)).values()).backward()
        assert counter.frame_count == 3


def test_what_cannot_be_switched():
    with pytest.raises(InputError, match=r"model\.activation_checkpointing must be None, 'selective' or 'full'"):
        build(method_config(METHOD, activation_checkpointing='some'))
    with pytest.raises(InputError, match='Linear has no mmmim'):
        compile_model(nn.Linear(2, 2), True)
    with pytest.raises(InputError, match='compile must be True'):
        compile_model(build(method_config(METHOD)), 'yes')
    model = build(method_config(METHOD))
    compile_model(model, False)
    compile_model(model, None)
    assert all(block._compiled_call_impl is None for block in blocks_of(model))
    compile_model(model, {'backend': 'eager'})
    compiled = [block._compiled_call_impl for block in blocks_of(model)]
    assert len(compiled) == 2 * 2 + 2 * 2  # student and teacher, encoder and predictor
    assert None not in compiled
    compile_model(model, {'backend': 'eager'})
    assert compiled == [block._compiled_call_impl for block in blocks_of(model)]
