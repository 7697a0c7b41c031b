"""ConMIM: a step against plain tensor operations, the second picture on its way, and what does not fit."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.config.images import check_transforms
from mmmim.datasets import SecondView, mask_collate
from mmmim.models import BatchNormProjector
from mmmim.models.functional import patch_discrimination
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.registered import ENCODERS, IMAGES, normalized
from tests.toys import DIM, GRID, PATCH, optim_wrapper, random_mask

SIDE = GRID[0] * PATCH
PROJECTOR = {'type': 'mmmim.BatchNormProjector', 'context_dim': DIM, 'hidden_dim': 12, 'out_dim': 6}


def conmim(**options):
    branch = {
        'target_generator': {'type': 'mmmim.ProjectedLatents', 'projector': 'branches.patches.neck', 'out_dim': 6},
        'neck': PROJECTOR,
        'head': {
            'type': 'mmmim.PatchDiscriminationHead',
            'temperature': 0.1,
            'standardize': False,
            'candidates': 'all',
        },
        'weight': 5.0,
    }
    torch.manual_seed(0)
    model = MODELS.build(
        {
            'type': 'mmmim.MaskedImageModeling',
            'backbone': ENCODERS['relative, mask tokens'],
            'branches': {'patches': branch},
            'teacher': ['backbone', 'branches.patches.neck'],
            **options,
        }
    ).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def second_view(*transforms):
    return SecondView(list(transforms))


def reference_projector(projector):
    """Layers of torch in training mode, with running statistics that nothing reads."""
    layers = []
    for linear, norm in zip(projector.linears, projector.norms, strict=True):
        own = nn.BatchNorm1d(norm.num_features, affine=norm.affine)
        own.load_state_dict(norm.state_dict(), strict=False)
        layers += [copy.deepcopy(linear), own, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).train()


def test_a_step_is_that_of_plain_operations():
    model, mask = conmim(), random_mask(IMAGES, predict=GRID[0] * GRID[1] - 6)
    assert mask.visible.shape[1] + mask.predict.shape[2] == GRID[0] * GRID[1]
    first, second = normalized(), normalized(seed=1)
    losses = model.loss(first, mask, model.targets(first, mask, second))
    losses['loss_patches'].backward()

    student = model.backbone(first, mask)
    own = reference_projector(model.branches['patches'].neck)
    tokens = torch.cat([student.extra, student.visible], dim=1).detach()
    queries = F.normalize(own(tokens.flatten(0, 1)), dim=-1).unflatten(0, tokens.shape[:2])[:, 1:]
    with torch.no_grad():
        teacher = model.teacher.backbone(second)
        theirs = reference_projector(model.teacher.branches.patches.neck)
        tokens = torch.cat([teacher.extra, teacher.visible], dim=1)
        keys = F.normalize(theirs(tokens.flatten(0, 1)), dim=-1).unflatten(0, tokens.shape[:2])[:, 1:]
    terms = []
    for image, places in enumerate(mask.flat_predict().tolist()):
        for place in places:
            logits = keys[image] @ queries[image, place] / 0.1
            terms.append(logits.logsumexp(0) - logits[place])
    expected = torch.stack(terms).mean()
    assert torch.allclose(losses['loss_patches'], expected, rtol=1e-5)
    expected.backward()
    for linear, layer in zip(model.branches['patches'].neck.linears, own[::3], strict=True):
        assert torch.allclose(linear.weight.grad, layer.weight.grad, rtol=1e-4, atol=1e-6)
    assert model.backbone.blocks[0].attn.q_proj.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in model.teacher.parameters())

    alone = model.loss(first, mask, model.targets(first, mask))
    assert (alone['loss_patches'] - losses['loss_patches']).abs() > 1e-3


def test_chance_is_the_number_of_patches():
    torch.manual_seed(0)
    prediction, target, others = torch.zeros(2, 5, 8), torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    loss = patch_discrimination(prediction, target, 0.1, standardize=False, others=others)
    assert float(loss) == pytest.approx(0.2 * math.log(12))
    exact = patch_discrimination(target, target, 0.01, standardize=False, others=others)
    assert float(exact) < 1e-3  # the targets come first among the candidates
    assert float(patch_discrimination(target, target, 0.01, standardize=False, others=target)) > 0.01


def test_norms_use_what_they_see_in_evaluation_too():
    projector = BatchNormProjector(DIM, 12, 6)
    context = MODELS.build(ENCODERS['mask tokens'])(normalized())
    assert torch.equal(projector.train().project(context), projector.eval().project(context))
    assert not list(projector.buffers())
    x = torch.cat([context.extra, context.visible], dim=1)
    assert projector.project(context).shape == (IMAGES, GRID[0] * GRID[1], 6)
    assert x.shape[1] == GRID[0] * GRID[1] + 1


def samples(transforms):
    rng = np.random.default_rng(0)
    from mmpretrain.datasets import PackInputs

    view, pack = second_view(*transforms), PackInputs()
    return [pack(view({'img': rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)})) for _ in range(IMAGES)]


def test_the_second_picture_reaches_the_teacher(monkeypatch):
    found = samples([{'type': 'mmpretrain.Solarize', 'thr': 0, 'prob': 1.0}])
    masking = {'type': 'mmmim.UniformMasking', 'mask_ratio': 0.5}
    batch = mask_collate(found, masking, PATCH)
    assert torch.equal(batch['second'], 255 - batch['inputs'])
    model, seen = conmim(), []
    encode = model.teacher.encode
    monkeypatch.setattr(
        model.teacher,
        'encode',
        lambda images, *args, **options: seen.append(images) or encode(images, *args, **options),
    )
    students = []
    model.backbone.register_forward_pre_hook(lambda module, args: students.append(args[0]))
    model.micro_batch_size = 2
    losses = model.train_step(batch, optim_wrapper(model))
    assert losses['loss_patches'].isfinite()
    prepared = model.data_preprocessor(batch)
    assert torch.equal(seen[0], prepared['second'])
    assert torch.equal(torch.cat(students), prepared['inputs'])
    data = {'mode': 'predict', **prepared}
    assert model(**data)[0]['loss'] != model(**{**data, 'second': None})[0]['loss']
    assert 'second' not in mask_collate([{**s, 'inputs': s['inputs'][0]} for s in found], masking, PATCH)


def test_colours_change_and_places_do_not():
    (first, second), *_ = (
        each['inputs'] for each in samples([{'type': 'mmcv.RandomGrayscale', 'prob': 1.0, 'keep_channels': True}])
    )
    assert torch.equal(second[0], second[1])
    assert (second[0].float() - first.float().mean(dim=0)).abs().mean() < 30
    with pytest.raises(InputError, match='leave crops and resizes'):
        samples([{'type': 'mmcv.Resize', 'scale': (8, 8)}])
    view = second_view()
    with pytest.raises(InputError, match='stands twice'):
        view(view({'img': np.zeros((4, 4, 3), np.uint8)}))
    load = {'type': 'mmmim.LoadImage', 'channels': 5}
    views = {
        'type': 'mmmim.SecondView',
        'transforms': [{'type': 'mmcv.RandomApply', 'transforms': [{'type': 'mmpretrain.ColorJitter'}]}],
    }
    with pytest.raises(InputError, match=r'pipeline\.1\.transforms\.0\.transforms\.0: mmpretrain\.ColorJitter'):
        check_transforms({'train_dataloader': {'dataset': {'pipeline': [load, views]}}})


def test_what_does_not_fit_is_named():
    mask = random_mask(IMAGES)
    with pytest.raises(InputError, match=r"no BatchNormProjector 'branches\.patches\.neck'"):
        conmim(teacher=['backbone']).targets(normalized(), mask)
    with pytest.raises(InputError, match='needs a teacher'):
        conmim(teacher=None).targets(normalized(), mask)
    model = conmim()
    few = random_mask(IMAGES, predict=4)
    with pytest.raises(InputError, match='predict what they do not leave visible'):
        model.loss(normalized(), few, model.targets(normalized(), few))
