"""What checkpointing keeps, how often blocks are compiled, and what cannot be."""

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmim.engine.compile import compile_model
from mmmim.models.layers import AxialRoPE, Block, blocks_of, compile_blocks, set_checkpointing
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.toys import batch, capi_config


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(drop_path=0.0, mode=None, **options):
    config = capi_config(activation_checkpointing=mode, **options)
    config['backbone']['drop_path_rate'] = drop_path
    config['branches']['capi']['neck']['drop_path_rate'] = drop_path
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def loss_and_gradients(model, data, seed=5):
    """Of the student's branch, as in a step."""
    model.zero_grad()
    torch.manual_seed(seed)
    targets = model.targets(data['inputs'], data['mask'], differentiable=False)
    losses = model.loss(data['inputs'], data['mask'], targets)
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other, **tolerance):
    for part, expected in zip(one, other, strict=True):
        assert part.keys() == expected.keys()
        for key, value in part.items():
            torch.testing.assert_close(value, expected[key], msg=lambda m, k=key: f'{k}: {m}', **tolerance)


def test_checkpointing_needs_the_right_word():
    with pytest.raises(InputError, match=r"model\.activation_checkpointing must be None, 'selective' or 'full'"):
        build(mode='some')


class Made(TorchDispatchMode):
    """Notes every storage that operations make."""

    def __init__(self):
        super().__init__()
        self.storages = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                self.storages.append((StorageWeakRef(value.untyped_storage()), value.untyped_storage().nbytes()))
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


COMBINATIONS = [(0.0, None), (0.5, None), (0.5, 'selective'), (0.5, 'full')]


@pytest.mark.parametrize(
    ('drop_path', 'mode', 'backend'),
    [
        (0.5, 'selective', 'eager'),
        *(pytest.param(*combination, 'aot_eager', marks=pytest.mark.slow) for combination in COMBINATIONS),
    ],
)
def test_compiled_blocks_change_nothing_and_compile_once(drop_path, mode, backend):
    """One graph per kind of block (student, predictor, teacher), whole, and none in later steps."""
    data = batch(8)
    plain = [loss_and_gradients(build(drop_path), data, seed) for seed in (5, 6)]
    model = build(drop_path, mode)
    names = list(model.state_dict())
    counter = CompileCounterWithBackend(backend)
    compile_blocks(model, backend=counter, fullgraph=True)
    assert list(model.state_dict()) == names
    for seed, expected in zip((5, 6), plain, strict=True):
        assert_same(loss_and_gradients(model, data, seed), expected, rtol=1e-3, atol=1e-5)
        assert counter.frame_count == 3
    # The last, smaller micro-batch compiles each of them once more, for any size; after that nothing does.
    for images in (6, 5, 7):
        loss_and_gradients(model, batch(images))
        assert counter.frame_count <= 6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='inductor needs a C++ compiler on a CPU')
@pytest.mark.parametrize(('drop_path', 'mode'), COMBINATIONS)
def test_inductor(drop_path, mode):
    data = batch(8)
    expected = loss_and_gradients(build(drop_path), data)
    model = build(drop_path, mode)
    compile_model(model, True)
    assert_same(loss_and_gradients(model, data), expected, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_compiled():
    with pytest.raises(InputError, match='Linear has no mmmim'):
        compile_model(nn.Linear(2, 2), True)
    with pytest.raises(InputError, match='compile must be True'):
        compile_model(build(), 'yes')
    model = build()
    compile_model(model, False)
    compile_model(model, None)
    assert all(block._compiled_call_impl is None for block in blocks_of(model))
    compile_model(model, {'backend': 'eager'})
    compiled = [block._compiled_call_impl for block in blocks_of(model)]
    assert len(compiled) == 2 * 2 + 2 * 2  # student and teacher, encoder and predictor
    assert None not in compiled
    compile_model(model, {'backend': 'eager'})
    assert compiled == [block._compiled_call_impl for block in blocks_of(model)]
