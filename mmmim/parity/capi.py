"""Replay of a recorded CAPI run."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.capi import CLUSTERING, HEAD, backbone_key, convert_weights, model_config
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.engine.optim_wrapper import OptimWrapper
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import patch_grid
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.checkpoint import load_state_dict

from .report import Fixture

#: Marks the parameters of the clustering, whose rate is recorded on its own.
_CLUSTERING = 2.0**60
_INPUTS = ('images', 'visible_indices', 'predict_indices', 'lr', 'clustering_lr', 'momentum')


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay."""
    parts = name.split('.')
    step_input = parts[0] == 'traj' and len(parts) == 3 and parts[2] in _INPUTS
    return name in _INPUTS or parts[0] == 'sd' or step_input


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU; None for gradients of the rotary table, which is a buffer here."""
    if name.startswith('gradnorm.') and name.endswith('rope.freqs'):
        return None
    if name.startswith('traj.'):
        return 1e-4
    return 5e-5 if name in ('assignments', 'targets') else 1e-5


def _model_key(name: str) -> str:
    """Mmmim's name of a recorded weight: ``student.*``, ``student_head.*``, ``teacher.*`` or ``clustering.*``."""
    side, key = name.split('.', 1)
    if side == 'clustering':
        return f'{CLUSTERING}.{key.removeprefix("layer.")}'
    if side == 'student_head':
        return f'{HEAD}.{key.removeprefix("last_layer.")}'
    inner = backbone_key(key)
    if inner is None or side not in ('student', 'teacher'):
        raise InputError(f'The recorded run has a weight {name!r} that CAPI has not.')
    return inner if side == 'student' else f'teacher.{inner}'


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = {key: torch.from_numpy(value).float() for key, value in fixture.group('sd.').items()}
    sides = ('student.', 'student_head.', 'teacher.', 'clustering.')
    if unknown := [key for key in weights if not key.startswith(sides)]:
        raise InputError(f'The recorded run has weights that CAPI has not: {", ".join(unknown[:5])}.')
    for side in sides:
        if not any(key.startswith(side) for key in weights):
            raise InputError(f'The recorded run lacks the weights sd.{side}*.')

    def part(name: str, prefix: str) -> dict[str, Tensor]:
        found = {k.removeprefix(f'{name}.'): v for k, v in weights.items() if k.startswith(f'{name}.')}
        return {prefix + key: value for key, value in found.items()}

    student = convert_weights(part('student', 'backbone.') | part('student_head', 'head.'))
    teacher = convert_weights(part('teacher', 'backbone.') | part('student_head', 'head.'))
    clustering = {f'{CLUSTERING}.{k.removeprefix("layer.")}': v for k, v in part('clustering', '').items()}

    config = model_config(student)
    backbone, branch = config['backbone'], config['branches']['capi']
    expected = {
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'heads': backbone['num_heads'],
        'enc': backbone['depth'],
        'dec': branch['neck']['depth'],
        'predictor_dim': branch['neck']['embed_dim'],
        'registers': backbone['num_registers'],
        'clusters': branch['head']['num_prototypes'],
    }
    wrong = {key: value for key, value in expected.items() if fixture.settings.get(key, value) != value}
    if wrong:
        raise InputError(f'The JSON sidecar says otherwise than the recorded weights, which have {wrong}.')
    if fixture.settings.get('drop_path', 0.0):
        raise InputError('The recorded run has drop_path, whose random draws are not recorded: it cannot be replayed.')
    temperature = fixture.setting('temperatures.student')
    branch['head']['temperature'] = branch['target_generator']['temperature'] = temperature
    branch['target_generator']['target_temperature'] = fixture.setting('temperatures.teacher')
    config['data_preprocessor'] = {
        'type': 'mmmim.MIMDataPreprocessor',
        'mean': [0.0] * backbone['in_channels'],
        'std': [1.0] * backbone['in_channels'],
        'bgr_to_rgb': False,
    }
    model = MODELS.build(config)
    state = student | clustering | {f'teacher.{key}': value for key, value in teacher.items()}
    load_state_dict(model, state, 'the recorded run')
    return model.train()


def _batch(fixture: Fixture, patch_size: int, prefix: str = '') -> tuple[Tensor, PatchMask]:
    """Images and masks of the recording (``prefix=''``) or of a step of its trajectory (``traj.0.``)."""
    images = torch.from_numpy(fixture.array(f'{prefix}images')).float()
    if images.ndim != 4 or not len(images):
        raise InputError(f'{prefix}images must be [B, 3, H, W], not {list(images.shape)}.')
    batch, grid = len(images), patch_grid(images.shape[2:], patch_size)
    size = grid[0] * grid[1]

    def rows(name: str) -> Tensor:
        flat = torch.from_numpy(fixture.array(prefix + name))
        name = prefix + name
        if flat.ndim != 1 or flat.is_floating_point() or not flat.numel() or flat.numel() % batch:
            raise InputError(
                f'{name} must be a list of indices, as many for each of the {batch} images, not {flat.dtype} '
                f'{list(flat.shape)}.'
            )
        if flat.min() < 0 or flat.max() >= batch * size:
            raise InputError(f'{name} goes beyond the {batch} x {size} patches.')
        index = flat.long().view(batch, -1)
        if not torch.equal(index // size, torch.arange(batch).unsqueeze(1).expand_as(index)):
            raise InputError(f'{name} must be ordered by image and have as many indices of each.')
        return index % size

    mask = PatchMask(rows('visible_indices'), rows('predict_indices').unsqueeze(1), torch.arange(batch), grid)
    return images, mask


def _norm(value: Tensor) -> np.ndarray:
    # In fp64: torch's fp32 norm of millions of elements is off by more than the tolerance.
    return value.detach().double().norm().numpy()


def _norms(fixture: Fixture, prefix: str, values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Norms of the recorded weights or gradients that the model has; 0 for weights without elements."""
    norms = {}
    for name in fixture.group(prefix):
        recorded = fixture.arrays.get(f'sd.{name}')
        if recorded is not None and recorded.size == 0:
            norms[name] = np.float32(0.0)
        elif (value := values.get(_model_key(name))) is not None:
            norms[name] = _norm(value)
    return norms


def _forward_quantities(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """Tokens, targets, predictions and losses of one batch, gradients left in the parameters."""
    branch = model.branches['capi']
    clustering = branch.target_generator
    assert model.teacher is not None
    tokens = model.teacher.encode(images).visible
    everywhere = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
    with torch.no_grad():
        _, assignments = clustering.cluster(tokens, everywhere, torch.arange(len(tokens)).unsqueeze(1))
    targets = model.targets(images, mask, differentiable=False)
    context = model.backbone(images, mask)
    prediction = branch.neck(context, mask)
    loss = branch.head.loss(prediction, targets['capi'], context)['loss']
    clustering_loss = targets['capi'].losses['loss_clustering']
    (loss + clustering_loss).backward()
    return {
        'teacher_patches': tokens,
        'assignments': assignments,
        'targets': targets['capi'].patches.flatten(0, 1),
        'student_visible': context.visible,
        'predictions': prediction.patches.flatten(0, 1),
        'logits': branch.head(prediction.patches).flatten(0, 1),
        'capi_loss': loss,
        'clustering_loss': clustering_loss,
    }


def _optimiser(model: MaskedImageModeling, fixture: Fixture) -> OptimWrapper:
    """AdamW with the recorded groups, in units: a group's ``lr`` is its factor."""
    factors = ('norm_weight_wd_factor', 'bias_wd_factor', 'patch_embed_lr_factor', 'rope_lr_factor')
    common = ('type', 'betas', 'eps', 'weight_decay')
    student = {key: fixture.setting(f'optimiser.student.{key}') for key in (*common, *factors)}
    clustering = {key: fixture.setting(f'optimiser.clustering.{key}') for key in common}
    if student['type'] != 'AdamW' or any(student[k] != clustering[k] for k in ('type', 'betas', 'eps')):
        raise InputError(
            'The replay has one AdamW for student and clustering: both must be of type AdamW, and their betas and eps '
            'must agree.'
        )
    if student['rope_lr_factor'] != 0:
        raise InputError('The rotary table is a constant in mmmim: rope_lr_factor must be 0.')
    decay, patch_lr = student['weight_decay'], student['patch_embed_lr_factor']
    rules: dict[str, dict | None] = {
        'clustering': {
            'match': r'target_generator\.',
            'decay_mult': clustering['weight_decay'],
            'lr_mult': _CLUSTERING,
        },
        'patch_bias': {
            'match': r'patch_embed\.bias$',
            'decay_mult': decay * student['bias_wd_factor'],
            'lr_mult': patch_lr,
        },
        'patch_weight': {'match': r'patch_embed\.', 'decay_mult': decay, 'lr_mult': patch_lr},
        'norms': {'match': r'norm\d\.weight$', 'decay_mult': decay * student['norm_weight_wd_factor']},
        'others': {'match': r'.', 'decay_mult': decay},
    }
    groups = parameter_groups(model, 1.0, 1.0, rules)
    for group in groups:
        group['factor'] = group['lr']
        group['lr'] = 0.0  # set at every step
    return OptimWrapper(torch.optim.AdamW(groups, betas=tuple(student['betas']), eps=student['eps'], fused=True))


def _trajectory(model: MaskedImageModeling, fixture: Fixture) -> dict[str, Any]:
    """Optimiser steps through the training step itself: losses before each, parameter norms after the last."""
    wrapper = _optimiser(model, fixture)
    computed: dict[str, Any] = {}
    for step in sorted({int(key.split('.')[0]) for key in fixture.group('traj.') if key.split('.')[0].isdigit()}):
        prefix = f'traj.{step}.'
        rates: list[float] = [fixture.array(prefix + name).item() for name in ('lr', 'clustering_lr', 'momentum')]
        lr, clustering_lr, momentum = rates
        for group in wrapper.optimizer.param_groups:
            group['lr'] = clustering_lr if group['factor'] == _CLUSTERING else lr * group['factor']
        images, mask = _batch(fixture, model.backbone.patch_size, prefix)
        losses = model.train_step({'inputs': images, 'mask': mask}, wrapper)
        assert model.teacher is not None
        model.teacher.update(model, momentum, wrapper.skipped)
        computed[f'{prefix}capi_loss'] = losses['loss_capi']
        computed[f'{prefix}clustering_loss'] = losses['loss_capi_clustering']
    for name, value in _norms(fixture, 'traj.final_norm.', model.state_dict()).items():
        computed[f'traj.final_norm.{name}'] = value
    return computed


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded CAPI run.

    Args:
        fixture: Any run of this layout: other sizes, patch sizes, depths and predictor widths.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model = build_model(fixture)
    images, mask = _batch(fixture, model.backbone.patch_size)
    computed: dict[str, Any] = _forward_quantities(model, images, mask)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, value in _norms(fixture, 'gradnorm.', gradients).items():
        computed[f'gradnorm.{name}'] = value
    model.zero_grad()

    with torch.no_grad():
        model.eval()
        whole = model.backbone(images)
        computed['eval_global'] = model.branches['capi'].neck.global_feature(whole)
        computed['eval_registers'] = whole.extra
        computed['eval_featmap'] = whole.visible.unflatten(1, mask.grid)
        model.train()
    computed |= _trajectory(model, fixture)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in computed.items()
    }
