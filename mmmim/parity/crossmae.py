"""Replay of a recorded CrossMAE run."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.crossmae import LAYOUT, NECK, collect, model_config
from mmmim.models import MaskedImageModeling
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .report import Fixture

#: Weight decay of the recipe: none of biases and of what has one axis.
RULES: dict[str, dict | None] = {'no_decay': {'match': r'\.bias$|norm\w*(\.\d+)?\.weight$', 'decay_mult': 0.0}}

_GENERATOR = 'branches.pixels.target_generator'
#: Biases after optimiser steps that hold those of keys; which parts of them there are.
_BIASES = {'attn.qkv.bias': 'qkv', 'cross_attn.kv.bias': 'kv'}


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay."""
    return name.startswith('param/') or name in ('images', 'visible', 'predicted')


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU.

    The gradient of the biases of keys is zero in exact arithmetic, and AdamW turns its rounding into steps: after these
    they tell nothing.
    """
    if name.endswith('.bias/k'):
        return None
    return 1e-4 if name.startswith('steps/') else 1e-5


def floor(fixture: Fixture) -> Callable[[str], float]:
    """The least scale of errors of gradients: a hundredth of the largest of all."""
    largest = max((float(np.abs(value).max(initial=0.0)) for value in fixture.group('grad/').values()), default=0.0)
    return lambda name: 0.01 * largest if name.startswith('grad/') else 0.0


def split(fixture: Fixture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fused biases after optimiser steps, as those of queries, of keys and of values."""
    result = {}
    for name, array in arrays.items():
        parts = next((parts for end, parts in _BIASES.items() if name.endswith(end)), '')
        if not parts or not name.startswith('steps/'):
            result[name] = array
            continue
        result |= {f'{name}/{part}': each for part, each in zip(parts, np.split(array, len(parts)), strict=True)}
    return result


def _images(fixture: Fixture) -> Tensor:
    """Images of the single step and of the others, ``[1 + steps, B, 3, H, W]``."""
    images = torch.from_numpy(fixture.array('images')).float()
    if images.ndim != 5:
        raise InputError(f'images has the shape {tuple(images.shape)}: [steps, B, C, H, W] was expected.')
    return images


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights, images and sidecar disagree.
    """
    settings = {key: fixture.setting(f'config.{key}') for key in ('patch', 'layer_norm_eps', 'feature_maps')}
    sides = _images(fixture).shape[-2:]
    if any(side % settings['patch'] for side in sides):
        raise InputError(f'images of {tuple(sides)} pixels are no whole number of patches of {settings["patch"]}.')
    grid = (sides[0] // settings['patch'], sides[1] // settings['patch'])
    weights = LAYOUT.convert(training.recorded_weights(fixture, 'param/'), 'The recorded run')
    config = model_config(
        weights,
        'The recorded run',
        fixture.setting('config.heads'),
        fixture.setting('config.decoder_heads'),
        fixture.setting('config.normalised_pixels'),
        settings['feature_maps'],
        fixture.setting('config.patch_embedding_is_a_feature_map'),
        grid,
    )
    backbone, neck = config['backbone'], config['branches']['pixels']['neck']
    expected = {
        'patch': backbone['patch_size'],
        'width': backbone['embed_dim'],
        'depth': backbone['depth'],
        'mlp_ratio': backbone['mlp_ratio'],
        'decoder_width': neck['embed_dim'],
        'decoder_depth': neck['depth'],
    }
    training.check_settings(fixture.setting('config'), expected)
    for part in (backbone, neck):
        part['norm_eps'] = settings['layer_norm_eps']
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    return training.recorded_model(config, weights)


def _masks(fixture: Fixture, images: Tensor, grid: tuple[int, int]) -> list[PatchMask]:
    """Recorded masks, one of each step.

    Raises:
        InputError: Indices of patches that are not there, or that stand twice.
    """
    visible, predicted = (torch.from_numpy(fixture.array(name)).long() for name in ('visible', 'predicted'))
    for name, indices in (('visible', visible), ('predicted', predicted)):
        if indices.ndim != 3 or indices.shape[:2] != images.shape[:2]:
            raise InputError(f'{name} has the shape {tuple(indices.shape)}, {(*images.shape[:2], "M")} was expected.')
    both = torch.cat([visible, predicted], dim=-1).sort(dim=-1).values
    if both.min() < 0 or both.max() >= grid[0] * grid[1] or (both.diff(dim=-1) == 0).any():
        raise InputError(f'visible and predicted must hold different patches of the {grid[0]} x {grid[1]} grid.')
    return [
        PatchMask(seen, asked.unsqueeze(1), torch.arange(len(seen)), grid)
        for seen, asked in zip(visible, predicted, strict=True)
    ]


def _step(fixture: Fixture, model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """States, mixtures, predictions, targets, loss and gradients of one training step."""
    neck: Any = model.get_submodule(NECK)
    norms = [f'{NECK}.context_norms.{i}' for i in range(len(neck.blocks))]
    step = training.step(model, images, mask, ['backbone', _GENERATOR, NECK, *norms])
    (context, _), prediction = step.calls[NECK][0].args, step.calls[NECK][0].output
    embedded = [context.embedded] if neck.embedded else []
    computed = {
        'encoder_states': torch.stack([*embedded, *context.hidden]),
        'decoder_context': torch.stack([step.calls[norm][0].args[0] for norm in norms], dim=-1),
        'predictions': prediction.patches,
        'targets': step.calls[_GENERATOR][0].output.patches,
        'loss': step.losses['loss'],
    }
    return computed | training.collected(fixture, 'grad/', step.gradients, collect)


def _trajectory(fixture: Fixture, images: Tensor, masks: list[PatchMask]) -> dict[str, Any]:
    """Optimiser steps through the training step itself."""
    model, options = build_model(fixture), fixture.setting('optimiser')
    names = ('lr', 'weight_decay', 'betas', 'eps')
    lr, decay, betas, eps = (fixture.setting(f'optimiser.{name}') for name in names)
    wrapper = training.adamw(model, lr, decay, RULES, betas, eps, options.get('clip_norm'))
    losses = [
        model.train_step({'inputs': batch, 'mask': mask}, wrapper)['loss']
        for batch, mask in zip(images, masks, strict=True)
    ]
    after = training.collected(fixture, 'steps/after/', model.state_dict(), collect)
    return {**after, 'steps/losses': torch.stack(losses)}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded CrossMAE run.

    Args:
        fixture: Any run of this layout: other grids, widths, depths, states, masks, batches and numbers of steps.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model, images = build_model(fixture), _images(fixture)
    masks = _masks(fixture, images, model.backbone.grid)
    computed = _step(fixture, model, images[0], masks[0])
    if fixture.group('steps/'):
        computed |= _trajectory(fixture, images[1:], masks[1:])
    return training.as_arrays(computed)
