"""Replay of a recorded I-JEPA run."""

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.ijepa import NECK, collect, convert_weights, model_config
from mmmim.engine.schedules import build_schedule
from mmmim.features.extraction import extract_features
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import sincos_positions
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .ijepa_masks import as_recorded, draws, masking_of, of_doc, recorded_mask, redraw
from .report import Fixture

#: Weight decay of the recipe: none of biases and of what has one axis.
RULES: dict[str, dict | None] = {'no_decay': {'match': r'bias$|norm\w*\.weight$', 'decay_mult': 0.0}}

#: Their keys' part has no gradient: softmax does not see it.
KEY_BIASES = 'attn.qkv.bias'


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay and not compared."""
    return name.startswith('sd.') or bool(re.fullmatch(r'images|traj\.\d+\.images|eps\.\w+_in', name))


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU; for indices of patches, it lets none be another.

    The gradient of the biases of keys is zero in exact arithmetic, and AdamW turns its rounding into steps: after the
    trajectory the biases that hold them agree less well.
    """
    if name.startswith('traj.final') and name.endswith(KEY_BIASES):
        return 1e-2
    return 1e-4 if name.startswith('traj.') and 'masks' not in name else 1e-5


def value_at(formula: str | float, step: int) -> float:
    """A setting that depends on the step: a number, or ``a``, ``a*(t+1)`` or ``a+b*t`` before the first comma.

    Raises:
        InputError: It is none of these.
    """
    number = r'([\d.]+(?:[eE][+-]?\d+)?)'
    text = str(formula).split(',')[0].replace(' ', '')
    if match := re.fullmatch(rf'{number}(\*\(t\+1\))?', text):
        return float(match[1]) * (step + 1 if match[2] else 1)
    if match := re.fullmatch(rf'{number}([+-]){number}\*t', text):
        return float(match[1]) + float(match[2] + match[3]) * step
    raise InputError(f'The JSON sidecar has {formula!r}; a number, a*(t+1) or a+b*t was expected.')


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    converted = convert_weights(training.recorded_weights(fixture, 'sd.'), 'The recorded run')
    config = model_config(converted, 'The recorded run', fixture.setting('config.heads'))
    backbone, neck = config['backbone'], config['branches']['latent']['neck']
    expected = {
        'img': backbone['img_size'],
        'grid': neck['grid'][0],
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'depth': backbone['depth'],
        'pred_dim': neck['embed_dim'],
        'pred_depth': neck['depth'],
    }
    training.check_settings(fixture.setting('config'), expected)
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    return training.recorded_model(config, converted)


def _images(fixture: Fixture, name: str, model: MaskedImageModeling) -> Tensor:
    images = torch.from_numpy(fixture.array(name)).float()
    sides = tuple(side * model.backbone.patch_size for side in model.backbone.grid)
    if images.ndim != 4 or images.shape[2:] != sides:
        raise InputError(f'{name} has the shape {tuple(images.shape)}: images of {sides} pixels were expected.')
    return images


def _outermost(rows: Tensor, *counts: int) -> Tensor:
    """Rows by image, context (and target block), in the order of the recording: the last of these outermost."""
    rows = rows.unflatten(0, (-1, *counts))
    axes = range(len(counts) + 1)
    return rows.permute(*reversed(axes), *range(len(axes), rows.ndim)).flatten(0, len(counts))


def _step(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tokens, targets, predictions and loss of one training step, and its gradients."""
    contexts, blocks = mask.num_masks // len(images), mask.predict.shape[1]

    def by_block(patches: Tensor) -> Tensor:
        return _outermost(patches.unflatten(1, (blocks, -1)).flatten(0, 1), contexts, blocks)

    places = ('backbone', 'teacher.backbone', 'branches.latent.target_generator', f'{NECK}.blocks.0', NECK)
    step = training.step(model, images, mask, places)
    context, whole, target, first_block, prediction = (step.calls[place][0] for place in places)
    computed = {
        'encoder_context': _outermost(context.output.visible, contexts),
        'target_full': whole.output.visible,
        'target_tokens': by_block(target.output.patches),
        'predictor_input': _outermost(first_block.args[0], contexts, blocks),
        'predictions': by_block(prediction.output.patches),
        'loss': step.losses['loss'],
    }
    return computed, step.gradients


@torch.no_grad()
def _modules(model: MaskedImageModeling, images: Tensor, fixture: Fixture) -> dict[str, Any]:
    """Whole images through the context encoder, small tokens through single modules, and tables of positions."""
    features = extract_features(model.backbone, images)
    computed: dict[str, Any] = {'encoder_full': features.patches[0], 'encoder_full_avg': features.pooled}
    if fixture.group('eps.'):
        branch = model.branches['latent']
        tokens, narrow = (torch.from_numpy(fixture.array(f'eps.{part}_in')) for part in ('encoder', 'predictor'))
        computed |= {
            'eps.encoder_block0': model.backbone.blocks[0](tokens),
            'eps.encoder_norm': model.backbone.norm(tokens),
            'eps.predictor_block0': branch.neck.blocks[0](narrow),
            'eps.predictor_norm': branch.neck.norm(narrow),
            'eps.target_norm': branch.target_generator.normalized(tokens),
        }
    for name in fixture.group('pos_table.'):
        if match := re.fullmatch(r'grid(\d+)\.dim(\d+)', name):
            computed[f'pos_table.{name}'] = sincos_positions((int(match[1]),) * 2, int(match[2]))
    return computed


def _steps(fixture: Fixture) -> int:
    return len(fixture.array('traj.losses'))


def _trajectory(fixture: Fixture) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves after each."""
    model, options = build_model(fixture), fixture.setting('optimiser')
    assert model.teacher is not None
    rates, momenta = (fixture.setting(f'optimiser.{key}') for key in ('lr', 'ema_momentum'))
    betas, eps, decay = (fixture.setting(f'optimiser.{key}') for key in ('betas', 'eps', 'weight_decay_decayed'))
    wrapper = training.adamw(model, value_at(rates, 0), decay, RULES, betas, eps, options.get('clip'))
    parts = {'encoder': model.backbone, 'target_encoder': model.teacher.backbone}
    parts['predictor'] = model.branches['latent'].neck
    losses, computed = [], {}
    for step in range(_steps(fixture)):
        for group in wrapper.optimizer.param_groups:
            group['lr'] = value_at(rates, step)
        images = _images(fixture, f'traj.{step}.images', model)
        mask = recorded_mask(fixture, f'traj.{step}.', len(images))
        losses.append(model.train_step({'inputs': images, 'mask': mask}, wrapper)['loss'])
        model.teacher.update(model, value_at(momenta, step), wrapper.skipped)
        for name, part in parts.items():
            computed[f'traj.{step}.total_norm.{name}'] = training.norm(*part.state_dict().values())
    weights = model.state_dict()
    computed |= training.collected(fixture, 'traj.final_norm.', weights, collect, training.norm)
    computed |= training.collected(fixture, 'traj.final.', weights, collect)
    return {**computed, 'traj.losses': torch.stack(losses)}


def _schedules(fixture: Fixture) -> dict[str, Any]:
    """Learning rate, weight decay and momentum of every iteration; rate and decay are advanced before their use."""
    number = r'([\d.e+-]+)'
    ipe, epochs, warmup_epochs, stretch = (
        float(of_doc(fixture, 'sched.lr', pattern)[0])
        for pattern in (rf'ipe {number}', rf'epochs {number}', rf'warmup {number} epochs', rf'ipe_scale {number}')
    )
    start, base, final = map(float, of_doc(fixture, 'sched.lr', rf'start {number} ref {number} final {number}'))
    low, high = map(float, of_doc(fixture, 'sched.wd', r'([\d.e-]+?)->([\d.e-]+)'))
    total, warmup = int(stretch * epochs * ipe), int(warmup_epochs * ipe)
    rate = {'start': start / base, 'final': final / base, 'warmup_ratio': warmup / total}
    lr = build_schedule({'type': 'mmmim.warmup_cosine', **rate, 'first': 1})
    wd = build_schedule({'type': 'mmmim.cosine', 'start': low / high, 'final': 1.0, 'first': 1})
    ema = build_schedule({'type': 'mmmim.linear', 'start': 0.996, 'final': 1.0})
    values = {
        'sched.lr': lambda i: base * lr(i, total),
        'sched.wd': lambda i: high * wd(i, total),
        'sched.ema': lambda i: ema(i, stretch * epochs * ipe),  # type: ignore[arg-type]
    }
    return {name: np.array([value(i) for i in range(len(fixture.array(name)))]) for name, value in values.items()}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded I-JEPA run.

    Args:
        fixture: Any run of this layout: other grids, widths, depths, masks, batches and numbers of steps.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model = build_model(fixture)
    images = _images(fixture, 'images', model)
    computed, gradients = _step(model, images, recorded_mask(fixture, '', len(images)))
    computed |= training.collected(fixture, 'gradnorm.', gradients, collect, training.norm)
    computed |= training.collected(fixture, 'grad.', gradients, collect)
    computed |= _modules(model, images, fixture)
    # Masks are drawn again, and compared with the recorded ones that everything else is computed with.
    masking = masking_of(fixture.setting('config'))
    prefixes = ['', *(f'traj.{step}.' for step in range(_steps(fixture)))] if fixture.group('traj.') else ['']
    for prefix in prefixes:
        mask = redraw(fixture, f'{prefix}masks_enc.0', masking, model.backbone.grid)
        computed |= as_recorded(mask, prefix, masking.num_contexts)
    computed |= draws(fixture)
    # A recording may lack whole parts, but not what a part of it starts from.
    if fixture.group('traj.'):
        computed |= _trajectory(fixture)
    if fixture.group('sched.'):
        computed |= _schedules(fixture)
    return training.as_arrays(computed)
