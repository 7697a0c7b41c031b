"""One algorithm class for all methods: CAPI, and two toys that stretch the frame."""

from contextlib import nullcontext
from types import MappingProxyType

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmmim.models.layers import Block
from mmmim.registry import MODELS
from mmmim.structures import Prediction, Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from tests.toys import DIM, PATCH, batch, capi_config, optim_wrapper, random_mask


@MODELS.register_module()
class ToyTeacherFeatures(BaseModule):
    """I-JEPA's targets: layer-normed teacher features of the target blocks."""

    def forward(self, images, mask, teacher, backbone):
        tokens = F.layer_norm(teacher.encode(images).visible, (DIM,))
        return Target(patches=gather_patches(tokens, mask.flat_predict(), mask.image_index))


@MODELS.register_module()
class ToyBlockPredictor(BaseModule):
    """I-JEPA's predictor: self-attention over the context and ONE target block at a time."""

    def __init__(self):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.position = nn.Linear(2, DIM)
        self.block = Block(DIM, 2)
        self.calls = 0

    def forward(self, context, mask):
        outputs = []
        seen = context.visible + self.position(context.positions(mask.visible))
        for block in mask.predict.unbind(1):
            self.calls += 1
            queries = self.mask_token + self.position(context.positions(block))
            outputs.append(self.block(torch.cat([seen, queries], dim=1))[:, seen.shape[1] :])
        return Prediction(patches=torch.cat(outputs, dim=1))


@MODELS.register_module()
class ToySmoothL1(BaseModule):
    def loss(self, prediction, target, context):
        return {'loss': F.smooth_l1_loss(prediction.patches, target.patches)}


def ijepa_config(**options):
    branch = {
        'target_generator': {'type': 'mmmim.ToyTeacherFeatures'},
        'neck': {'type': 'mmmim.ToyBlockPredictor'},
        'head': {'type': 'mmmim.ToySmoothL1'},
    }
    return capi_config(branches={'jepa': branch}, teacher=['backbone'], **options)


def fused_config(**options):
    """BEiT's shape: the encoder sees mask tokens, and its own output is the prediction."""
    branch = {
        'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH},
        'neck': {'type': 'mmmim.PickPredicted', 'context_dim': DIM, 'out_dim': 3 * PATCH**2},
        'head': {'type': 'mmmim.RegressionHead'},
    }
    backbone = {
        'type': 'mmmim.ViT',
        'img_size': 16,
        'patch_size': PATCH,
        'embed_dim': DIM,
        'depth': 2,
        'num_heads': 2,
        'positions': 'learnable',
        'fused': True,
    }
    return capi_config(backbone=backbone, branches={'pixels': branch}, teacher=None, **options)


METHODS = {
    'capi': (capi_config, {}),
    'ijepa': (ijepa_config, {'blocks': 4, 'predict': 2}),
    'fused': (fused_config, {'per_image': 2}),
}


def build(method, **options):
    torch.manual_seed(0)
    model = MODELS.build(METHODS[method][0](**options))
    model.init_weights()
    return model.train()


@pytest.mark.parametrize('method', METHODS)
def test_every_method_learns_through_the_same_step(method):
    model = build(method)
    wrapper = optim_wrapper(model, lr=1e-2)
    data = batch(8, **METHODS[method][1])
    losses = [model.train_step(data, wrapper) for _ in range(12)]
    names = {'capi': {'loss_capi', 'loss_capi_clustering'}, 'ijepa': {'loss_jepa'}, 'fused': {'loss_pixels'}}[method]
    assert set(losses[0]) == names | {'loss', 'grad_norm', 'skipped'}
    torch.testing.assert_close(losses[0]['loss'], sum(losses[0][name] for name in names))
    assert losses[-1]['loss'] < losses[0]['loss']
    if method == 'ijepa':
        assert model.branches['jepa'].neck.calls == 12 * 4


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(('images', 'micro_batch_size'), [(8, 1), (8, 2), (8, 3), (8, 8), (9, 4), (16, 5), (8, 20)])
def test_micro_batches_give_the_step_of_the_whole_batch(method, images, micro_batch_size):
    data = batch(images, **METHODS[method][1])
    results = []
    for size in (None, micro_batch_size):
        model = build(method, micro_batch_size=size)
        wrapper = optim_wrapper(model)
        losses = [model.train_step(data, wrapper) for _ in range(3)]
        results.append((losses, model.state_dict()))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f'{key}: {m}')
    for key, value in results[0][1].items():
        if key.endswith('k_proj.bias'):  # its gradient is zero in exact arithmetic, and AdamW enlarges the rounding
            continue
        torch.testing.assert_close(
            value, results[1][1][key], rtol=1e-3, atol=1e-5, msg=lambda m, key=key: f'{key}: {m}'
        )


def test_the_two_losses_of_capi_reach_disjoint_parameters():
    model, data = build('capi'), batch(8)
    targets = model.targets(data['inputs'], data['mask'], differentiable=False)
    model.own_losses(targets)['loss_capi_clustering'].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {f'branches.capi.target_generator.{name}' for name in ('weight', 'bias')}
    model.zero_grad()
    model.loss(data['inputs'], data['mask'], targets)['loss_capi'].backward()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trainable - reached


def test_the_teacher_is_asked_once_per_view():
    model, data = build('ijepa'), batch(4)
    calls = []
    model.teacher.backbone.register_forward_hook(lambda *a: calls.append(1))
    first = model.teacher.encode(data['inputs'])
    assert model.teacher.encode(data['inputs']) is first
    masked = model.teacher.encode(data['inputs'], data['mask'])
    assert masked.visible.shape[1] == data['mask'].visible.shape[1]
    assert len(calls) == 2
    model.teacher.forget()
    assert model.teacher.encode(data['inputs']) is not first
    assert len(calls) == 3


def test_the_teacher_moves_and_stays():
    model = build('capi')
    student = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith('teacher.'):
                torch.testing.assert_close(parameter, student[name.removeprefix('teacher.')])
                parameter.add_(1.0)
    before = {k: v.clone() for k, v in model.teacher.named_parameters()}
    model.teacher.update(model, 0.9, skipped=torch.ones(()))
    for name, parameter in model.teacher.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
    model.teacher.update(model, 0.9, skipped=torch.zeros(()))
    for name, parameter in model.teacher.named_parameters():
        torch.testing.assert_close(parameter, 0.9 * before[name] + 0.1 * student[name])
    model.teacher.update(model, 0.0)
    for name, parameter in model.teacher.named_parameters():
        torch.testing.assert_close(parameter, student[name])
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_has_no_drop_path():
    config = capi_config()
    config['backbone']['drop_path_rate'] = 0.5
    model = MODELS.build(config).train()
    assert model.backbone.training
    assert not model.teacher.backbone.training
    images = batch(16)['inputs']
    torch.testing.assert_close(
        model.teacher.backbone(images).visible, model.teacher.backbone(images).visible, rtol=0, atol=0
    )


def test_teacher_of_an_unknown_part():
    with pytest.raises(InputError, match=r"no part 'branches\.dino\.neck'"):
        MODELS.build(capi_config(teacher=['backbone', 'branches.dino.neck']))


@pytest.mark.parametrize('where', ['loss', 'clustering'])
def test_non_finite_gradients_skip_optimiser_clustering_and_teacher_together(where):
    model = build('capi')
    wrapper = optim_wrapper(model, lr=1e-2)
    good = batch(8)
    model.train_step(good, wrapper)
    model.teacher.update(model, 0.5, wrapper.skipped)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    moments = [{k: v.clone() for k, v in state.items()} for state in wrapper.optimizer.state.values()]

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


def test_nan_images_never_reach_weights_or_teacher():
    model = build('capi')
    wrapper = optim_wrapper(model)
    bad = batch(8)
    bad['inputs'][3] = float('nan')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train_step(bad, wrapper)
    model.teacher.update(model, 0.5, wrapper.skipped)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('part', 'key'),
    [('head', 'in_dim'), ('head', 'num_prototypes'), ('target_generator', 'in_dim'), ('neck', 'context_dim')],
)
def test_sizes_that_contradict_each_other_are_refused_when_building(part, key):
    config = capi_config()
    config['branches']['capi'][part][key] += 4
    with pytest.raises(InputError, match=rf'model\.branches\.capi\.{part}.*{key}.* must be equal|num_prototypes'):
        MODELS.build(config)


def test_accumulation_over_iterations_is_refused():
    from mmengine.optim import OptimWrapper

    model = build('capi')
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(InputError, match='micro_batch_size'):
        model.train_step(batch(4), OptimWrapper(optimizer, accumulative_counts=2))


def test_batch_without_masks():
    with pytest.raises(InputError, match=r'mmmim\.MaskCollate'):
        build('capi')(batch(2)['inputs'], mode='loss')


def test_predict_mode_gives_the_losses_of_a_batch():
    model, data = build('capi').eval(), batch(8)
    with torch.no_grad():
        (losses,) = model.val_step(data)
    assert set(losses) == {'loss_capi', 'loss_capi_clustering', 'loss', 'images'}
    assert losses['images'] == 8


def test_masked_patches_do_not_reach_the_student():
    model, data = build('capi').eval(), batch(2)
    hidden = data['inputs'].clone()
    mask = data['mask']
    unseen = torch.ones(2, 16, dtype=torch.bool).scatter(1, mask.visible, False).view(2, 1, 4, 1, 4, 1)
    hidden.view(2, 3, 4, 4, 4, 4)[unseen.expand(2, 3, 4, 4, 4, 4)] = 7.0
    torch.testing.assert_close(model.backbone(hidden, mask).visible, model.backbone(data['inputs'], mask).visible)


def test_predictions_are_independent_of_each_other():
    model, data = build('capi').eval(), batch(2)
    context = model.backbone(data['inputs'], data['mask'])
    neck = model.branches['capi'].neck
    together = neck(context, random_mask(2, predict=3)).patches
    alone = neck(context, random_mask(2, predict=1)).patches
    torch.testing.assert_close(together[:, :1], alone)


def test_bf16_autocast_keeps_parameters_and_losses_in_fp32():
    from mmmim.engine import OptimWrapper

    model = build('capi')
    wrapper = OptimWrapper(
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True), 'bfloat16'
    )
    data, reference = batch(8), build('capi')
    losses = model.train_step(data, wrapper)
    plain = reference.train_step(data, optim_wrapper(reference))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses['loss'].dtype == torch.float32
    torch.testing.assert_close(losses['loss'], plain['loss'], rtol=0.02, atol=0.02)
    assert losses['loss'] != plain['loss']


@pytest.mark.parametrize('registers', [0, 4])
def test_tokens_are_fp32_under_autocast_and_bf16_in_a_bf16_model(registers):
    config = capi_config()
    config['backbone']['num_registers'] = registers
    model, data = MODELS.build(config).eval(), batch(2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        context = model.backbone(data['inputs'], data['mask'], layers=(0,))
        prediction = model.branches['capi'].neck(context, data['mask'])
    assert context.visible.dtype == context.hidden[0].dtype == prediction.patches.dtype == torch.float32
    model = model.bfloat16()
    context = model.backbone(data['inputs'].bfloat16(), data['mask'])
    prediction = model.branches['capi'].neck(context, data['mask'])
    logits = model.branches['capi'].head(prediction.patches)
    assert context.visible.dtype == prediction.patches.dtype == logits.dtype == torch.bfloat16


def test_describe_batch_names_every_size():
    text = build('capi', micro_batch_size=4).describe_batch(per_gpu_batch=16, images=32)
    assert 'micro-batches of 4' in text
    assert '24 prototypes over 32 images' in text


def test_nothing_in_the_step_reads_a_tensor_on_the_host(monkeypatch):
    """On a GPU each of these calls would wait for the device."""
    model = build('capi', micro_batch_size=4)
    wrapper, data = optim_wrapper(model), batch(8)
    model.train_step(data, wrapper)

    def refuse(*args, **kwargs):
        raise AssertionError('host sync')

    for name in ('item', 'tolist', '__bool__', '__float__', '__int__', '__index__', 'numpy', 'cpu', 'nonzero'):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    model.train_step(data, wrapper)
    model.teacher.update(model, 0.9, wrapper.skipped)


@pytest.mark.parametrize('micro_batch_size', [None, 3])
def test_the_weight_of_a_branch_is_that_of_all_its_losses(micro_batch_size):
    """Also of the target generator's own, and of gradients; losses of another branch stay."""

    def run(weight):
        torch.manual_seed(0)
        config = capi_config(micro_batch_size=micro_batch_size)
        config['branches']['capi']['weight'] = weight
        config['branches']['other'] = {
            'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH},
            'neck': {
                'type': 'mmmim.CrossAttentionPredictor',
                'context_dim': DIM,
                'embed_dim': 48,
                'depth': 1,
                'num_heads': 2,
            },
            'head': {'type': 'mmmim.RegressionHead'},
        }
        model = MODELS.build(config)
        data = batch(6)
        log = model.train_step(data, Kept())
        (validated,) = model.val_step({**data, 'data_samples': None})
        generator = model.branches['capi'].target_generator
        return log, validated, [generator.weight.grad, model.branches['capi'].head.weight_v.grad]

    class Kept:
        """An optimiser wrapper that takes no step, so that gradients stay."""

        step_info = MappingProxyType({})

        def optim_context(self, model):
            return nullcontext()

        def backward(self, loss):
            loss.backward()

        def step(self):
            pass

        zero_grad = step

    one, other = run(1.0), run(2.5)
    for before, after in zip(one[:2], other[:2], strict=True):
        for key in ('loss_capi', 'loss_capi_clustering'):
            torch.testing.assert_close(after[key], 2.5 * before[key])
        torch.testing.assert_close(after['loss_other'], before['loss_other'])
        torch.testing.assert_close(after['loss'], 2.5 * before['loss'] - 1.5 * before['loss_other'])
    for before, after in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(after, 2.5 * before)
