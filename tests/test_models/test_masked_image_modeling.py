"""The algorithm: its teacher, its step, steps that are lost, parts that contradict each other."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper as Theirs

from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.registered import TARGETS, method_batch, method_config
from tests.toys import DIM, PATCH, batch, capi_config, optim_wrapper

PILAMIM, LATENT_MIM = 'pilamim/small', 'latent_mim/small'


def build(config=None, **options):
    torch.manual_seed(0)
    model = MODELS.build(config or capi_config(**options))
    model.init_weights()
    return model.train()


def state_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


# ------------------------------------------------------------------------------------------------------------ teacher


def test_the_teacher_is_asked_once_per_view():
    model, data, calls = build(), batch(4), []
    model.teacher.backbone.register_forward_hook(lambda *args: calls.append(1))
    view = model.teacher.view(data['inputs'])
    first = view.encode()
    assert view.encode() is first
    masked = view.encode(data['mask'])
    assert masked.visible.shape[1] == data['mask'].visible.shape[1]
    assert view.encode(depth=1) is not first
    assert len(calls) == 3
    assert model.teacher.view(data['inputs']).encode() is not first
    assert len(calls) == 4


def test_the_teacher_moves_and_stays():
    model = build()
    student = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith('teacher.'):
                torch.testing.assert_close(parameter, student[name.removeprefix('teacher.')])
                parameter.add_(1.0)
    before = {key: value.clone() for key, value in model.teacher.named_parameters()}
    for momentum, skipped, expected in (
        (0.9, torch.ones(()), lambda name: before[name]),
        (0.9, torch.zeros(()), lambda name: 0.9 * before[name] + 0.1 * student[name]),
        (0.0, None, lambda name: student[name]),
    ):
        model.teacher.update(model, momentum, skipped)
        for name, parameter in model.teacher.named_parameters():
            torch.testing.assert_close(parameter, expected(name))
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_has_no_drop_path():
    config = capi_config()
    config['backbone']['drop_path_rate'] = 0.5
    model, images = build(config), batch(16)['inputs']
    assert model.backbone.training
    assert not model.teacher.backbone.training
    assert torch.equal(model.teacher.backbone(images).visible, model.teacher.backbone(images).visible)


@pytest.mark.parametrize('start', ['student', 'own'])
def test_a_teacher_starts_as_the_student_or_on_its_own(start):
    model = build(method_config(PILAMIM, teacher_init=start))
    state = model.state_dict()
    same = {k: torch.equal(v, state[k.removeprefix('teacher.')]) for k, v in state.items() if k.startswith('teacher.')}
    constant = {key for key in same if 'norm' in key}  # ones and zeros in every model
    assert all(same[key] for key in constant)
    assert {same[key] for key in same if key not in constant} == {start == 'student'}
    one, other = (part.blocks[0].mlp.fc1.weight for part in (model.backbone, model.teacher.backbone))
    assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)


# --------------------------------------------------------------------------------------------------------------- step


@pytest.mark.parametrize('micro_batch_size', [None, 3])
def test_the_weight_of_a_branch_is_that_of_all_its_losses(micro_batch_size, monkeypatch):
    """Also of the target generator's own, and of gradients; losses of another branch stay."""
    pixels = {
        'target_generator': TARGETS['pixels'],
        'neck': {
            'type': 'mmmim.CrossAttentionPredictor',
            'context_dim': DIM,
            'embed_dim': 3 * PATCH**2,
            'depth': 1,
            'num_heads': 2,
        },
        'head': {'type': 'mmmim.RegressionHead'},
    }

    def run(weight):
        config = capi_config(micro_batch_size=micro_batch_size)
        config['branches']['capi']['weight'] = weight
        config['branches']['other'] = pixels
        model, data = build(config), batch(6)
        (validated,) = model.val_step({**data, 'data_samples': None})
        wrapper = optim_wrapper(model)
        monkeypatch.setattr(wrapper, 'step', lambda: None)  # gradients stay
        monkeypatch.setattr(wrapper, 'zero_grad', lambda: None)
        log = model.train_step(data, wrapper)
        branch = model.branches['capi']
        return log, validated, [branch.target_generator.weight.grad, branch.head.weight_v.grad]

    one, other = run(1.0), run(2.5)
    for before, after in zip(one[:2], other[:2], strict=True):
        for key in ('loss_capi', 'loss_capi_clustering'):
            torch.testing.assert_close(after[key], 2.5 * before[key])
        torch.testing.assert_close(after['loss_other'], before['loss_other'])
        torch.testing.assert_close(after['loss'], 2.5 * before['loss'] - 1.5 * before['loss_other'])
    for before, after in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(after, 2.5 * before)


def test_micro_batches_show_in_a_similarity_averaged_over_them():
    logs = []
    for size in (None, 1):
        config = copy.deepcopy(method_config(LATENT_MIM, micro_batch_size=size))
        config['branches']['latent']['head']['heads']['similarity'].pop('per_image')
        model = build(config)
        torch.nn.init.normal_(model.branches['latent'].neck.mask_token)
        logs.append(model.train_step(method_batch(LATENT_MIM, 6), optim_wrapper(model)))
    whole, split = logs
    assert whole['loss_latent'] == pytest.approx(split['loss_latent'].item(), rel=1e-4)
    assert whole['loss_latent_similarity_predicted'] < split['loss_latent_similarity_predicted'] - 1e-5


@pytest.mark.parametrize(
    ('off', 'losses'), [('pixels', {'loss_latent', 'loss_latent_cls'}), ('latent', {'loss_pixels'})]
)
def test_branches_that_are_switched_off(off, losses):
    config = method_config(PILAMIM)
    config['branches'] = {**config['branches'], off: None}
    config['teacher'] = None if off == 'latent' else config['teacher']
    model = build(config)
    log = model.train_step(method_batch(PILAMIM), optim_wrapper(model))
    assert {name for name in log if name.startswith('loss_')} == losses
    assert not any(f'branches.{off}.' in name for name in model.state_dict())


def test_describe_batch_names_every_size():
    text = build(micro_batch_size=4).describe_batch(per_gpu_batch=16, images=32)
    assert 'micro-batches of 4' in text
    assert '24 prototypes over 32 images' in text


@pytest.mark.parametrize('where', ['loss', 'clustering'])
def test_non_finite_gradients_skip_optimiser_clustering_and_teacher_together(where):
    model, good = build(), batch(8)
    wrapper = optim_wrapper(model, lr=1e-2)
    model.train_step(good, wrapper)
    model.teacher.update(model, 0.5, wrapper.skipped)
    before = state_of(model)
    moments = [{key: value.clone() for key, value in state.items()} for state in wrapper.optimizer.state.values()]

    part = model.branches['capi'].head if where == 'loss' else model.branches['capi'].target_generator
    hook = next(iter(part.parameters())).register_hook(lambda grad: grad * float('inf'))
    losses = model.train_step(good, wrapper)
    model.teacher.update(model, 0.5, wrapper.skipped)
    hook.remove()
    assert losses['skipped'] == 1
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    for state, old in zip(wrapper.optimizer.state.values(), moments, strict=True):
        for key, value in state.items():
            assert torch.equal(value, old[key]), key

    assert model.train_step(good, wrapper)['skipped'] == 0
    assert not torch.equal(model.backbone.extra_tokens, before['backbone.extra_tokens'])


# ----------------------------------------------------------------------------------------------------------- refusals


def test_steps_that_cannot_be_taken():
    model = build()
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(InputError, match='micro_batch_size'):
        model.train_step(batch(4), Theirs(sgd, accumulative_counts=2))
    with pytest.raises(InputError, match=r'mmmim\.MaskCollate'):
        model(batch(2)['inputs'], mode='loss')


BRANCH = {
    'capi': 'capi',
    'mae': 'pixels',
    'ijepa': 'latent',
    'pilamim': 'pixels',
    'beit': 'tokens',
    'maskfeat': 'hog',
    'semantic_mim': 'semantic',
}
FIVE_CHANNELS = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [1.0] * 5, 'std': [1.0] * 5}


@pytest.mark.parametrize(
    ('method', 'changes', 'message'),
    [
        ('capi/small', {'teacher': ['backbone', 'branches.dino.neck']}, r"no part 'branches\.dino\.neck'"),
        ('capi/small', {'branches': {'capi': None}}, r'model\.branches has no branch'),
        ('capi/small', {'teacher_init': 'copy'}, "teacher_init must be 'student' or 'own', got 'copy'"),
        ('capi/small', {'head.in_dim': 20}, r'head\.in_dim is 20 and .*neck\.out_dim is 48'),
        ('capi/small', {'neck.context_dim': 20}, r'context_dim is 20 and model\.backbone\.embed_dim is 48'),
        ('mae/small', {'neck.out_dim': 40}, r'target_generator\.out_dim is 48 and .*pixels\.neck\.out_dim is 40'),
        ('mae/small', {'target_generator.patch_size': 8}, r'patch_size is 8 and model\.backbone\.patch_size is 4'),
        ('mae/small', {'neck.grid': (8, 5)}, r'neck\.grid is \(8, 5\) and model\.backbone\.grid is \(8, 8\)'),
        (PILAMIM, {'neck.num_extra_positions': 2}, r'is 2 and model\.backbone\.num_extra_tokens is 1'),
        ('semantic_mim/maskfeat_small', {'neck.depth': 1}, r'neck\.depth is 1 and model\.backbone\.depth is 2'),
        ('beit/small', {'target_generator.mean': (0.0,) * 3}, r'mean is \[0.*\] and model\.data_preprocessor\.mean'),
        ('beit/small', {'target_generator.tokenizer.num_tokens': 30}, r'is 30 and .*neck\.out_dim is 32'),
        (
            'mae/small',
            {'backbone.in_channels': 5, 'target_generator.in_channels': 5, 'neck.out_dim': 80},
            r'backbone\.in_channels is 5 and .*data_preprocessor\.mean has 3 values',
        ),
        (
            'maskfeat/small',
            {'backbone.in_channels': 5, 'data_preprocessor': FIVE_CHANNELS},
            r'target_generator\.in_channels is 3 and model\.backbone\.in_channels is 5',
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused_when_built(method, changes, message):
    config = copy.deepcopy(method_config(method))
    for key, value in changes.items():
        *path, last = key.split('.')
        node = config['branches'][BRANCH[method.split('/')[0]]] if path and path[0] != 'backbone' else config
        for part in path:
            node = node[part]
        node[last] = value
    with pytest.raises(InputError, match=message):
        MODELS.build(config)
