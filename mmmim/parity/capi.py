"""Replay of a recorded CAPI run."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.capi import CLUSTERING, HEAD, NECK, backbone_key, convert_weights, model_config
from mmmim.engine.optim_wrapper import OptimWrapper
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import patch_grid
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.nested import under

from . import training
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
    weights = training.recorded_weights(fixture, 'sd.')
    sides = ('student.', 'student_head.', 'teacher.', 'clustering.')
    if unknown := [key for key in weights if not key.startswith(sides)]:
        raise InputError(f'The recorded run has weights that CAPI has not: {", ".join(unknown[:5])}.')
    for side in sides:
        if not any(key.startswith(side) for key in weights):
            raise InputError(f'The recorded run lacks the weights sd.{side}*.')

    def part(name: str, prefix: str) -> dict[str, Tensor]:
        found = under(weights, f'{name}.')
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
    training.check_settings(fixture.settings, expected)
    if fixture.settings.get('drop_path', 0.0):
        raise InputError('The recorded run has drop_path, whose random draws are not recorded: it cannot be replayed.')
    temperature = fixture.setting('temperatures.student')
    branch['head']['temperature'] = branch['target_generator']['temperature'] = temperature
    branch['target_generator']['target_temperature'] = fixture.setting('temperatures.teacher')
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    state = student | clustering | {f'teacher.{key}': value for key, value in teacher.items()}
    return training.recorded_model(config, state)


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


def _norms(fixture: Fixture, prefix: str, values: dict[str, Tensor]) -> dict[str, float]:
    """Norms of the recorded weights or gradients that the model has; 0 for weights without elements."""
    norms = {}
    for name in fixture.group(prefix):
        recorded = fixture.arrays.get(f'sd.{name}')
        if recorded is not None and recorded.size == 0:
            norms[prefix + name] = 0.0
        elif (value := values.get(_model_key(name))) is not None:
            norms[prefix + name] = training.norm(value)
    return norms


def _step(fixture: Fixture, model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """Tokens, targets, predictions, losses and gradients of one training step."""
    places = ('teacher.backbone', CLUSTERING, 'backbone', NECK)
    step = training.step(model, images, mask, places)
    teacher, targets, student, prediction = (step.calls[place][0].output for place in places)
    with torch.no_grad():  # which the loss makes in parts
        logits = model.get_submodule(HEAD)(prediction.patches)
    return {
        'teacher_patches': teacher.visible,
        'assignments': training.targets_of_all(model, images, mask, CLUSTERING).patches,
        'targets': targets.patches.flatten(0, 1),
        'student_visible': student.visible,
        'predictions': prediction.patches.flatten(0, 1),
        'logits': logits.flatten(0, 1),
        'capi_loss': step.losses['loss_capi'],
        'clustering_loss': step.losses['loss_capi_clustering'],
        **_norms(fixture, 'gradnorm.', step.gradients),
    }


@torch.no_grad()
def _evaluation(model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """Features of whole images."""
    whole = model.eval().backbone(images)
    pooled = model.get_submodule(NECK).global_feature(whole)
    model.train()
    return {
        'eval_global': pooled,
        'eval_registers': whole.extra,
        'eval_featmap': whole.visible.unflatten(1, whole.grid),
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
    wrapper = training.adamw(model, 1.0, 1.0, rules, student['betas'], student['eps'])
    for group in wrapper.optimizer.param_groups:
        group['factor'] = group['lr']
    return wrapper


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
    return computed | _norms(fixture, 'traj.final_norm.', model.state_dict())


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
    computed = _step(fixture, model, images, mask) | _evaluation(model, images)
    return training.as_arrays(computed | _trajectory(model, fixture))
