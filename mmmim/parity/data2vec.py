"""Replay of a recorded data2vec run, for images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.data2vec import NECK, collect, convert_weights, model_config
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import StateMean
from mmmim.models.layers.relative import RelativePositions
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .report import Fixture

#: Weight decay of the recipe: none of biases, of what has one axis and of CLS; the table of positions decays.
RULES: dict[str, dict | None] = {
    'no_decay': {'match': r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$', 'decay_mult': 0.0}
}
_LAYER, _NONE = {'normalize_layers': 'layer'}, {'normalize_layers': None}
#: By name in the recording: options of the targets, and the threshold of the loss.
VARIANTS: dict[str, tuple[dict[str, Any], float]] = {
    'recipe': ({**_LAYER, 'normalize': 'layer'}, 2.0),
    'recipe_beta012': ({**_LAYER, 'normalize': 'layer'}, 0.12),
    'code_without_layer_norm': ({**_NONE, 'normalize': 'layer'}, 2.0),
    'paper': ({**_LAYER, 'normalize': None}, 2.0),
    'fc_instance': ({'state': 'mlp', 'normalize_layers': 'instance', 'normalize': 'layer'}, 2.0),
    'end_average_only': ({**_NONE, 'normalize': None}, 2.0),
}
#: What the second part of a recorded name is, of quantities of a variant.
_OF_VARIANT = ('targets', 'predictions', 'loss')


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay and not compared."""
    return name in ('images', 'masks', 'steps/lr', 'steps/ema_decay') or name.startswith('param/')


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU; rows of the table are the same or not."""
    return 1e-4 if name.startswith('steps/') else 1e-5


def pair(value: Any, name: str) -> tuple[int, int]:
    """Two sides of a sidecar, of which one number stands for both.

    Raises:
        InputError: They are neither.
    """
    sides = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(f'The JSON sidecar has {name}={value!r}: a side, or height and width, was expected.')
    return sides[0], sides[1]


def _config(fixture: Fixture, weights: Mapping[str, Tensor], variant: str) -> dict[str, Any]:
    """The config of a variant of the model.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    settings = fixture.setting('config')
    grid = pair(fixture.setting('config.grid'), 'config.grid')
    config = model_config(weights, 'The recorded run', fixture.setting('config.heads'), grid)
    backbone, branch = config['backbone'], config['branches']['latent']
    backbone['norm_eps'] = fixture.setting('config.layer_norm_eps')
    image = [side * backbone['patch_size'] for side in grid]
    found = {
        'patch': backbone['patch_size'],
        'width': backbone['embed_dim'],
        'depth': backbone['depth'],
        'mlp_ratio': backbone['mlp_ratio'],
    }
    if 'image' in settings and pair(settings['image'], 'config.image') != tuple(image):
        found['image'] = image
    training.check_settings(settings, found)
    options, beta = VARIANTS[variant]
    branch['target_generator'] |= {'layers': fixture.setting('config.target_layers'), **options}
    branch['head']['beta'] = beta
    config['teacher'] = ['backbone', NECK]  # the recorded teacher has the last layer, too, which nothing reads
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    return config


def build_model(fixture: Fixture, variant: str = 'recipe') -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights, which student and teacher start from.

    Args:
        fixture: The recording whose weights and sizes it has.
        variant: One of :data:`VARIANTS`.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = convert_weights(training.recorded_weights(fixture, 'param/'), 'The recorded run')
    both = weights | {f'teacher.{key}': value for key, value in weights.items()}
    return training.recorded_model(_config(fixture, weights, variant), both)


def _batch(fixture: Fixture, index: int, grid: tuple[int, int], patch_size: int) -> tuple[Tensor, PatchMask]:
    """Images ``[B, 3, H, W]`` and masks of one of the recorded batches.

    Raises:
        InputError: They do not fit together, or the images have different numbers of masked patches.
    """
    images, masks = (torch.from_numpy(fixture.array(name)) for name in ('images', 'masks'))
    sides = tuple(side * patch_size for side in grid)
    if images.ndim != 5 or images.shape[3:] != sides:
        raise InputError(f'images has the shape {tuple(images.shape)}: images of {sides} pixels were expected.')
    if masks.shape != (*images.shape[:2], *grid):
        raise InputError(f'masks has the shape {tuple(masks.shape)}: {(*images.shape[:2], *grid)} was expected.')
    if not index < len(images):
        raise InputError(f'images has {len(images)} batches, of which number {index} was asked for.')
    masked = masks[index].bool().flatten(1)
    numbers = masked.sum(dim=1)
    if not (numbers == numbers[0]).all() or not 0 < int(numbers[0]) < masked.shape[1]:
        raise InputError(f'masks has {numbers.tolist()} masked patches: as many of every image, and not all.')
    mask = PatchMask(
        visible=(~masked).nonzero()[:, 1].view(len(masked), -1),
        predict=masked.nonzero()[:, 1].view(len(masked), 1, -1),
        image_index=torch.arange(len(masked)),
        grid=grid,
    )
    return images[index].float(), mask


def _variant(fixture: Fixture, variant: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Targets, predictions and loss of one training step, and its gradients."""
    model = build_model(fixture, variant)
    images, mask = _batch(fixture, 0, model.backbone.grid, model.backbone.patch_size)
    places = ('branches.latent.target_generator', NECK)
    step = training.step(model, images, mask, places)
    target, prediction = (step.calls[place][0].output for place in places)
    computed = {
        f'{variant}/targets': target.patches.flatten(0, 1),
        f'{variant}/predictions': prediction.patches.flatten(0, 1),
        f'{variant}/loss': step.losses['loss'],
    }
    return computed, step.gradients


@torch.no_grad()
def _states(fixture: Fixture) -> dict[str, Any]:
    """What every block of the teacher makes of whole images, and the rows of the table."""
    model = build_model(fixture)
    assert model.teacher is not None
    images, _ = _batch(fixture, 0, model.backbone.grid, model.backbone.patch_size)
    view, layers = model.teacher.view(images), range(model.backbone.depth)
    means = {
        name: torch.stack([view.encode(mean=StateMean((layer,), state)).mean for layer in layers])
        for name, state in (('teacher_layers_end', 'block'), ('teacher_layers_fc', 'mlp'))
    }
    positions = model.backbone.positions
    assert isinstance(positions, RelativePositions)
    numbered = RelativePositions(positions.grid, 1)
    numbered.table.copy_(torch.arange(len(numbered.table)).unsqueeze(1))
    return {**means, 'rel_pos_index': numbered.bias(positions.grid, None, 1)[0, 0].long()}


def _steps(fixture: Fixture) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves after each."""
    options = fixture.setting('optimiser')
    variant = options.get('loss', 'recipe')
    if variant not in VARIANTS:
        raise InputError(f'The JSON sidecar has optimiser.loss={variant!r}: one of {", ".join(VARIANTS)} was expected.')
    model = build_model(fixture, variant)
    assert model.teacher is not None
    rates, momenta = fixture.array('steps/lr'), fixture.array('steps/ema_decay')
    betas, eps, decay = (fixture.setting(f'optimiser.{key}') for key in ('betas', 'eps', 'weight_decay'))
    wrapper = training.adamw(model, float(rates[0]), decay, RULES, betas, eps, options.get('clip_norm'))
    losses, norms, computed = [], [], {}
    place = 'branches.latent.target_generator'
    for step, (rate, momentum) in enumerate(zip(rates.tolist(), momenta.tolist(), strict=True)):
        for group in wrapper.optimizer.param_groups:
            group['lr'] = rate
        images, mask = _batch(fixture, 1 + step, model.backbone.grid, model.backbone.patch_size)
        with training.listen(model, [place]) as calls:
            log = model.train_step({'inputs': images, 'mask': mask}, wrapper)
        losses.append(log['loss'])
        norms.append(log['grad_norm'])
        computed[f'steps/targets_{step}'] = calls[place][0].output.patches.flatten(0, 1)
        model.teacher.update(model, momentum, wrapper.skipped)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith('teacher.')}
    computed |= training.collected(fixture, 'steps/student/', own, collect)
    computed |= training.collected(fixture, 'steps/teacher/', model.teacher.state_dict(), collect)
    return {**computed, 'steps/losses': torch.stack(losses), 'steps/grad_norms': torch.stack(norms)}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded data2vec run.

    Args:
        fixture: Any run of this layout: other grids, widths, depths, target blocks, masks, batches and steps.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    computed = _states(fixture)
    named = {name.split('/')[0] for name in fixture.arrays if name.rpartition('/')[2] in _OF_VARIANT}
    for variant in [name for name in VARIANTS if name in named]:
        quantities, gradients = _variant(fixture, variant)
        computed |= quantities
        if variant == 'recipe':
            computed |= training.collected(fixture, 'grad/', gradients, collect)
    if fixture.group('steps/'):
        computed |= _steps(fixture)
    return training.as_arrays(computed)
