"""What every registered model can do: one test for each capability, over the tables of `tests/registered.py`."""

import copy
import io
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmmim.engine import OptimWrapper
from mmmim.models.layers import blocks_of, compile_blocks, set_checkpointing
from mmmim.registry import MODELS, register_all_modules
from mmmim.utils import InputError
from tests.registered import (
    CASES,
    ENCODERS,
    FOREIGN,
    GRID,
    IMAGES,
    METHODS,
    NECKS,
    NECKS_OF_ONE_BLOCK,
    NOT_INSTALLED,
    PARTS,
    TARGETS,
    WHOLE,
    build,
    encoder_input,
    method_batch,
    method_config,
    neck_input,
    normalized,
    outputs_of,
    target_of,
)
from tests.toys import DIM, optim_wrapper, random_mask

#: Cases with blocks of mmmim, which can be compiled and checkpointed.
BLOCKS = [
    name
    for name, case in CASES.items()
    if name in WHOLE or ("'num_heads'" in str(case.config) and not name.endswith(FOREIGN) and 'VQ-KD' not in name)
]
#: Those of mmpretrain ask for memory of the CPU by name.
NEVER_META = ('tokenizer: DALL-E', 'tokenizer: VQ-KD')
#: Methods whose student has batch norm, which sees a micro-batch.
BATCH_NORM = ('conmim/small',)
NEEDS_A_COMPILER = pytest.mark.skipif(shutil.which('g++') is None, reason='inductor needs a C++ compiler on a CPU')
# Softmax does not see the bias of keys: its gradient is the rounding of what cancels.
UNSEEN = 'k_proj.bias'


def test_everything_registered_is_in_a_table():
    register_all_modules(init_default_scope=False)
    ours = {f'mmmim.{name}' for name, found in MODELS.module_dict.items() if found.__module__.startswith('mmmim.')}
    missing = ours - {case.config['type'] for case in CASES.values()} - NOT_INSTALLED
    assert not missing, f'without tests of what every model can do; add lines to tests/registered.py: {missing}'


def seeded(case, module, seed=3):
    """What a module makes of its batch; what is drawn is always the same."""
    torch.manual_seed(seed)
    return case.run(module)


def backward(outputs):
    """Send gradients back from all outputs that have them, each entry weighted at random."""
    rng = torch.Generator().manual_seed(0)
    trained = [out for out in outputs.values() if out.requires_grad]
    if trained:
        sum((out.float() * torch.randn(out.shape, generator=rng)).sum() for out in trained).backward()
    return bool(trained)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_same(found, expected, skip=(), **tolerance):
    """Two dicts of tensors are equal."""
    assert found.keys() == expected.keys()
    for key, value in found.items():
        if not key.endswith(skip or '\0'):
            assert_close(value, expected[key], msg=lambda m, key=key: f'{key}: {m}', **tolerance)


def is_close(one, other, tolerance=0.05):
    one, other = one.float(), other.float()
    return (one - other).norm() <= tolerance * other.norm().clamp_min(1e-3)


# ----------------------------------------------------------------------------------------------------- of every model


# Tokenizers are frozen by the targets that they make.
@pytest.mark.parametrize('name', [name for name in CASES if not name.startswith('tokenizer')])
def test_forward_and_backward(name):
    """Outputs are finite, and every parameter that is to be trained gets a gradient."""
    module = CASES[name].build()
    outputs = seeded(CASES[name], module)
    assert outputs
    assert all(out.isfinite().all() for out in outputs.values())
    trained = {key for key, p in module.named_parameters() if p.requires_grad}
    assert backward(outputs) or not trained
    assert gradients(module).keys() == trained
    idle = [key for key, grad in gradients(module).items() if not grad.any() and not key.endswith(UNSEEN)]
    assert idle == []


@pytest.mark.parametrize('name', CASES)
def test_on_the_meta_device(name):
    """A model is built without memory, with the names, shapes and types that it has anywhere."""
    with torch.device('meta'):
        sizes = MODELS.build(CASES[name].config)
    state, expected = sizes.state_dict(), build(CASES[name].config).state_dict()
    assert name in NEVER_META or all(value.is_meta for value in state.values())
    assert {key: (v.shape, v.dtype) for key, v in state.items()} == {k: (v.shape, v.dtype) for k, v in expected.items()}


@pytest.mark.parametrize('name', CASES)
def test_saved_and_loaded(name):
    """The state is all there is: another model that loads it has the same outputs."""
    case = CASES[name]
    module, other = case.build(0).eval(), case.build(1).eval()
    expected = seeded(case, module)
    if any(not key.endswith('fingerprint') for key in module.state_dict()):  # of what another model has, too
        assert any(not torch.equal(out, expected[key]) for key, out in seeded(case, other).items())
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(seeded(case, other), expected, rtol=0, atol=0)


@pytest.mark.parametrize('name', CASES)
def test_autocast_in_bfloat16(name):
    """Outputs stay close; losses, weights and the stream of tokens through the blocks stay fp32."""
    case = CASES[name]
    module = case.build().eval()
    plain = seeded(case, module)
    streams = []
    for block in blocks_of(module):
        block.register_forward_hook(
            lambda block, args, out: streams.append((out[0] if isinstance(out, tuple) else out).dtype)
        )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outputs = seeded(case, module)
    assert set(streams) <= {torch.float32}
    assert bool(streams) == bool(blocks_of(module))
    for key, out in outputs.items():
        assert out.isfinite().all()
        if out.is_floating_point():
            assert is_close(out, plain[key]), key
            assert not key.startswith('loss') or out.dtype == torch.float32
        else:
            assert (out != plain[key]).float().mean() < 0.1
    backward(outputs)
    assert all(grad.isfinite().all() for grad in gradients(module).values())


def with_gradients(case, module):
    """Outputs and gradients in a training step with stochastic depth."""
    for block in blocks_of(module):
        if hasattr(block, 'drop_path'):
            block.drop_path = 0.5
    outputs = seeded(case, module.train())
    backward(outputs)
    return outputs, gradients(module)


#: One of every kind of block, rotary and not; all others are made of these.
COMPILED = ('encoder: rotary, registers', 'encoder: mask tokens', 'neck: cross-attention, rotary', 'neck: decoder')
COMPILED += ('neck: proxies, added', 'neck: self-attention, added', 'method: beit/small')


@pytest.mark.parametrize('name', [*COMPILED, *WHOLE])
def test_activation_checkpointing_changes_nothing(name):
    case = CASES[name]
    results = []
    for mode in (None, 'selective', 'full'):
        module = case.build()
        assert blocks_of(module)
        set_checkpointing(module, mode)
        results.append(with_gradients(case, module))
    for other in results[1:]:
        for one, expected in zip(other, results[0], strict=True):
            assert_same(one, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('name', 'backend'),
    [
        *((name, 'eager') for name in COMPILED),
        *(pytest.param(name, 'aot_eager', marks=pytest.mark.slow) for name in BLOCKS),
        pytest.param('method: capi/small', 'inductor', marks=[pytest.mark.slow, NEEDS_A_COMPILER]),
    ],
)
@pytest.mark.parametrize('mode', [None, pytest.param('selective', marks=pytest.mark.slow)])
def test_compiled_blocks_change_nothing(name, backend, mode):
    torch._dynamo.reset()
    case = CASES[name]
    expected = with_gradients(case, case.build())
    module = case.build()
    set_checkpointing(module, mode)
    compile_blocks(module, backend=backend, fullgraph=True)
    for one, other in zip(with_gradients(case, module), expected, strict=True):
        assert_same(one, other, skip=UNSEEN, rtol=1e-3, atol=1e-4)


# ----------------------------------------------------------------------------------------------------- of every encoder


@pytest.mark.parametrize('name', ENCODERS)
def test_encoders_say_what_they_give(name):
    encoder = build(ENCODERS[name]).eval()
    images, mask = encoder_input(name, per_image=2)
    context = encoder(images, mask, layers=(0, -1))
    patches = GRID[0] * GRID[1]
    seen = patches if 'fused' in ENCODERS[name] else mask.visible.shape[1]
    masks = mask.num_masks
    assert (encoder.embed_dim, encoder.depth, encoder.grid) == (DIM, 3, GRID)
    assert context.visible.shape == (masks, seen, DIM)
    assert context.extra.shape == (masks, encoder.num_extra_tokens, DIM)
    assert context.grid == GRID
    assert context.num_cls_tokens == encoder.num_cls_tokens <= encoder.num_extra_tokens
    assert [state.shape for state in context.hidden] == [(masks, encoder.num_extra_tokens + seen, DIM)] * 2
    # Whole images of another size.
    context = encoder(normalized()[..., : 2 * encoder.patch_size, :].repeat(1, 1, 1, images.shape[-1] // 16))
    assert context.visible.shape == (IMAGES, 8, DIM)
    assert context.grid == (2, 4)
    with pytest.raises(InputError, match='There is no block 3 in an encoder of 3: use 0 to 2, or -3 to -1'):
        encoder(images, mask, layers=(3,))
    with pytest.raises(InputError, match='does not divide an image of'):
        encoder(images[..., 1:])


@pytest.mark.parametrize('name', ENCODERS)
def test_states_of_any_layer_are_those_of_a_forward_that_ends_there(name):
    encoder = CASES[f'encoder: {name}'].build().eval()
    images, mask = encoder_input(name)
    passed = []
    hooks = [block.register_forward_hook(lambda block, args, out: passed.append(out)) for block in encoder.blocks]
    whole = encoder(images, mask)
    for hook in hooks:
        hook.remove()
    order = (2, -3, 1, 0, -1)
    context = encoder(images, mask, layers=order)
    assert_same(outputs_of(replace(context, hidden=())), outputs_of(whole), rtol=0, atol=0)
    after = nn.Sequential(encoder.norm, getattr(encoder, 'projector', nn.Identity()))
    for layer, state in zip(order, context.hidden, strict=True):
        assert torch.equal(state, passed[layer])
        cut = encoder(images, mask, layers=(layer,), depth=layer % 3 + 1)
        assert torch.equal(cut.hidden[0], state)
        assert_close(torch.cat([cut.extra, cut.visible], dim=1), after(state))


@pytest.mark.parametrize('name', ENCODERS)
def test_hidden_patches_never_reach_an_encoder(name):
    encoder = CASES[f'encoder: {name}'].build().eval()
    images, mask = encoder_input(name, per_image=2)
    before = encoder(images, mask)
    for image in range(IMAGES):
        seen = torch.zeros(GRID[0] * GRID[1], dtype=torch.bool)
        seen[mask.visible[mask.image_index == image].flatten()] = True
        side = encoder.patch_size
        tiles = seen.view(1, GRID[0], 1, GRID[1], 1).expand(3, -1, side, -1, side).reshape(images[image].shape)
        changed = images.clone()
        changed[image][~tiles] = 7.0
        assert_same(outputs_of(encoder(changed, mask)), outputs_of(before), rtol=0, atol=0)
        changed = images.clone()
        changed[image][tiles] += 1.0
        assert not torch.equal(encoder(changed, mask).visible, before.visible)


# -------------------------------------------------------------------------------------------------------- of every neck


@pytest.mark.parametrize('name', NECKS)
def test_necks_predict_what_is_asked_for(name):
    """In the order of the question, whatever the order of what is seen; blocks of targets apart from each other."""
    built = PARTS[f'neck: {name}'].build().eval()

    def neck(context, mask):
        torch.manual_seed(0)  # of the noise that stands in some for hidden patches
        return built(context, mask)

    blocks = 1 if name in NECKS_OF_ONE_BLOCK else 3
    context, mask = neck_input(name, per_image=2, blocks=blocks)
    together, (_, width) = neck(context, mask), built.sizes()['prediction width']
    assert together.patches.shape == (2 * IMAGES, 3 * blocks, width)
    assert together.cls is None or together.cls.shape == (2 * IMAGES, width)
    assert (together.patches[:, 0] - together.patches[:, 1]).abs().max() > 1e-3
    for i in range(blocks):
        alone = neck(context, replace(mask, predict=mask.predict[:, i : i + 1]))
        assert_close(alone.patches, together.patches[:, 3 * i : 3 * i + 3])
    turned = neck(context, replace(mask, predict=mask.predict.flip(2))).patches
    assert_close(turned, together.patches.unflatten(1, (blocks, 3)).flip(2).flatten(1, 2))
    if context.visible.shape[1] == mask.visible.shape[1]:  # not those of all patches
        number = context.extra.shape[1]

        def turned_around(state):
            return torch.cat([state[:, :number], state[:, number:].flip(1)], dim=1)

        states = tuple(map(turned_around, context.hidden))
        start = context.embedded if context.embedded is None else turned_around(context.embedded)
        seen = replace(context, visible=context.visible.flip(1), hidden=states, embedded=start)
        assert_close(neck(seen, replace(mask, visible=mask.visible.flip(1))).patches, together.patches)
    none = neck(context, replace(mask, predict=mask.predict[:, :1, :0]))
    assert none.patches.shape == (2 * IMAGES, 0, width)


@pytest.mark.parametrize('name', [*(f'encoder: {n}' for n in ENCODERS), *(f'neck: {n}' for n in NECKS)])
def test_models_in_half_precision(name):
    """Tokens have the precision of the weights, and stay close to those of fp32."""
    case = CASES[name]
    module = case.build().eval()
    expected = seeded(case, module)
    for key, out in seeded(case, module.bfloat16()).items():
        assert out.dtype == torch.bfloat16
        assert is_close(out, expected[key], 0.1), key


# ------------------------------------------------------------------------------------------- of every target and method


@pytest.mark.parametrize('name', TARGETS)
def test_targets_are_of_the_predicted_patches(name):
    generator = PARTS[f'target: {name}'].build()
    target, mask = target_of(generator), random_mask(IMAGES, blocks=2, per_image=2)
    assert target.patches.shape[:2] == mask.flat_predict().shape
    # Gradients flow into targets where the generator says so.
    assert target.patches.requires_grad == generator.differentiable
    if generator.num_tokens:
        assert target.patches.dtype == torch.int64
        assert 0 <= target.patches.min() <= target.patches.max() < generator.num_tokens
    elif generator.distribution:
        assert target.patches.shape[2] == generator.num_prototypes
        assert_close(target.patches.sum(-1), torch.ones(target.patches.shape[:2]))
    else:
        assert target.patches.shape[2] == generator.out_dim
    if target.cls is not None:
        assert target.cls.shape == (mask.num_masks, target.patches.shape[2])
    # Those of a patch do not depend on what else is predicted.
    if 'predicted' not in name:
        fewer = target_of(generator, replace(mask, predict=mask.predict[:, 1:]))
        assert_close(fewer.patches, target.patches[:, mask.predict.shape[2] :])


def trainable(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def model_of(name, **options):
    torch.manual_seed(0)
    model = MODELS.build(method_config(name, **options))
    model.init_weights()
    return model.train()


@pytest.mark.parametrize('name', METHODS)
def test_micro_batches_change_nothing(name):
    """Losses, gradients and weights after a step are those of the whole batch, also where it does not divide."""
    results = []
    for size in (None, 3):
        model = model_of(name, micro_batch_size=size)
        for block in blocks_of(model):
            if hasattr(block, 'drop_path'):
                block.drop_path = 0.0
        # AdamW would make steps out of the rounding of gradients that are zero.
        wrapper = OptimWrapper(torch.optim.SGD(trainable(model), lr=0.1, fused=True))
        torch.manual_seed(0)
        results.append((model.train_step(method_batch(name, 8), wrapper), model.state_dict()))
    (log, state), (split_log, split_state) = results
    assert not log['skipped']
    if name in BATCH_NORM:
        assert abs(split_log['loss'] - log['loss']) > 1e-4 * log['loss']
        return
    assert_same(split_log, log, rtol=1e-4, atol=1e-5)
    assert_same(split_state, state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', METHODS)
def test_methods_learn(name):
    """A model of any method knows its batch better after some steps, and validates as it trains."""
    model, data = model_of(name), method_batch(name, 8)
    wrapper = optim_wrapper(model, lr=3e-3)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    logs = [model.train_step(data, wrapper) for _ in range(5)]
    names = {key for key in logs[0] if key.startswith('loss_')}
    assert names
    assert_close(logs[0]['loss'], sum(logs[0][key] for key in names))
    assert logs[-1]['loss'] < logs[0]['loss']
    # Whatever is trained has moved; the teacher, which a hook moves, has not.
    still = {key for key, p in model.named_parameters() if torch.equal(p, before[key])}
    assert still == {key for key, p in model.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        (validated,) = model.eval().val_step(copy.copy(data))
    assert validated.keys() == names | {'loss', 'images'}
    assert validated['images'] == 8


@pytest.mark.parametrize('name', METHODS)
def test_nothing_in_a_step_reads_a_tensor_on_the_host(name, monkeypatch):
    """On a GPU each of these calls would wait for the device."""
    model = model_of(name, micro_batch_size=4)
    wrapper, data = optim_wrapper(model), method_batch(name, 8)
    model.train_step(data, wrapper)

    def refuse(*args, **kwargs):
        raise AssertionError('host sync')

    for method in ('item', 'tolist', '__bool__', '__float__', '__int__', '__index__', 'numpy', 'cpu', 'nonzero'):
        monkeypatch.setattr(torch.Tensor, method, refuse)
    model.train_step(data, wrapper)
    if model.teacher is not None:
        model.teacher.update(model, 0.9, wrapper.skipped)
