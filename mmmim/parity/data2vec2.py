"""Replay of a recorded data2vec 2.0 run, for images."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.common import Layout, count_blocks, vit_config
from mmmim.models import ConvolutionalDecoder, MaskedImageModeling
from mmmim.models.layers import StateMean
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .data2vec import pair
from .report import Fixture

NECK = 'branches.latent.neck'
_GENERATOR = 'branches.latent.target_generator'
#: Weight decay of the recipe: none of biases and of what has one axis; CLS decays.
RULES: dict[str, dict | None] = {'no_decay': {'match': r'\.bias$|norm\d?\.weight$', 'decay_mult': 0.0}}

_IMAGE = 'modality_encoders.IMAGE.'
_SINGLE = {
    'extra_tokens': 'backbone.extra_tokens',
    'fixed_positional_encoder.positions': 'backbone.positions.weight',
    **{
        f'{theirs}.{kind}': f'{ours}.{kind}'
        for theirs, ours in (
            ('local_encoder.proj', 'backbone.patch_embed'),
            ('context_encoder.norm', 'backbone.embedding_norm'),
            ('decoder.proj', f'{NECK}.proj'),
        )
        for kind in ('weight', 'bias')
    },
}


def mmmim_names(key: str, prenet: int) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: three for fused queries, keys and values; None for others.

    Args:
        key: Name of a weight in the authors' code.
        prenet: Number of blocks before the ones that targets are made of, which have names of their own there.
    """
    own = key.removeprefix(_IMAGE)
    if own in _SINGLE and own != key:
        return (_SINGLE[own],)
    if match := re.fullmatch(r'decoder\.blocks\.(\d+)\.0\.(weight|bias)', own):
        return (f'{NECK}.convolutions.{match[1]}.conv.{match[2]}',)
    if (match := re.fullmatch(r'(context_encoder\.)?blocks\.(\d+)\.(.+)\.(weight|bias)', own)) is None:
        return None
    number = int(match[2]) + (0 if match[1] else prenet)
    root, kind = f'backbone.blocks.{number}', match[4]
    if match[3] == 'attn.qkv':
        return tuple(f'{root}.attn.{part}_proj.{kind}' for part in 'qkv')
    if match[3] in ('norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2'):
        return (f'{root}.{match[3]}.{kind}',)
    return None


def _adapt(key: str, value: Tensor, _weights: Mapping[str, Tensor]) -> Tensor:
    return value[0] if key.endswith('.positions') else value


def layout_of(fixture: Fixture) -> Layout:
    """The names of weights of a recording."""
    names = partial(mmmim_names, prenet=fixture.setting('config.prenet_depth'))
    return Layout('data2vec 2.0', 'modality_encoders.IMAGE.*, blocks.*', names, _adapt)


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay and not compared."""
    return name in ('images', 'masks', 'noise', 'steps/ema_decay') or name.startswith('param/')


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU.

    The biases of keys have no gradient in exact arithmetic: what stands in their places is rounding, and small beside
    the rest of the fused tensor. A mean of targets over all patches is small beside them, and its rounding is theirs.
    """
    if name.startswith('steps/'):
        return 1e-4
    return 5e-5 if name in ('cls_targets', 'loss_cls') else 1e-5


def _config(fixture: Fixture, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of the model.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    settings = fixture.setting('config')
    grid = pair(fixture.setting('config.grid'), 'config.grid')
    needed = ['backbone.extra_tokens', 'backbone.embedding_norm.weight', f'{NECK}.proj.weight']
    backbone = vit_config(weights, 'a data2vec 2.0', 'The recorded run', fixture.setting('config.heads'), needed, grid)
    convolutions = [key for key in weights if re.fullmatch(re.escape(NECK) + r'\.convolutions\.\d+\.conv\.weight', key)]
    if not convolutions:
        raise InputError('The recorded run has no convolutions of a decoder.')
    first, dim = weights[f'{NECK}.convolutions.0.conv.weight'], backbone['embed_dim']
    depth, prenet = count_blocks(weights, 'backbone'), fixture.setting('config.prenet_depth')
    image = [side * backbone['patch_size'] for side in grid]
    found: dict[str, Any] = {
        'patch': backbone['patch_size'],
        'width': dim,
        'depth': depth - prenet,
        'mlp_ratio': backbone['mlp_ratio'],
        'extra_tokens': weights['backbone.extra_tokens'].shape[1],
    }
    if 'image' in settings and pair(settings['image'], 'config.image') != tuple(image):
        found['image'] = image
    training.check_settings(settings, found)
    decoder = {'width': first.shape[0], 'kernel': first.shape[-1], 'layers': len(convolutions)}
    training.check_settings(fixture.setting('config.decoder'), decoder)
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': training.images_as_they_are(backbone['in_channels']),
        'backbone': {
            **backbone,
            'num_cls_tokens': found['extra_tokens'],
            'norm_eps': fixture.setting('config.layer_norm_eps'),
            'post_norm': True,
            'embedding_norm': True,
            'final_norm': False,
        },
        'branches': {
            'latent': {
                'target_generator': {
                    'type': 'mmmim.LatentTarget',
                    'in_dim': dim,
                    'layers': list(range(depth - fixture.setting('config.average_top_k'), depth)),
                    'state': 'mlp',
                    'normalize_layers': 'instance',
                    'normalize': 'layer',
                    'global_target': 'mean',
                },
                'neck': {
                    'type': 'mmmim.ConvolutionalDecoder',
                    'context_dim': dim,
                    'embed_dim': first.shape[0],
                    'depth': len(convolutions),
                    'kernel': first.shape[-1],
                    'groups': fixture.setting('config.decoder.groups'),
                    'out_dim': dim,
                },
                'head': {'type': 'mmmim.CombinedHead', 'heads': _heads(fixture, dim)},
            }
        },
        'teacher': ['backbone'],
    }


def _heads(fixture: Fixture, dim: int) -> dict[str, Any]:
    """Both losses: sums over channels over the root of their number; that of CLS is summed over all masks."""
    masks = fixture.array('masks').shape[1]
    weight = fixture.setting('config.cls_loss') * masks * dim**0.5
    return {
        'patches': {'type': 'mmmim.RegressionHead', 'weight': dim**0.5},
        'cls': {'type': 'mmmim.RegressionHead', 'of': 'cls', 'weight': weight},
    }


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights, which student and teacher start from.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = layout_of(fixture).convert(training.recorded_weights(fixture, 'param/'), 'The recorded run')
    both = weights | {f'teacher.{key}': value for key, value in weights.items() if key.startswith('backbone.')}
    return training.recorded_model(_config(fixture, weights), both)


def _batch(fixture: Fixture, index: int, model: MaskedImageModeling) -> tuple[Tensor, PatchMask, Tensor]:
    """Images ``[B, 3, H, W]``, masks and noise ``[G, N, D]`` of one of the recorded batches.

    Raises:
        InputError: They do not fit together, or masks have different numbers of masked patches.
    """
    images, masks, noise = (torch.from_numpy(fixture.array(name)) for name in ('images', 'masks', 'noise'))
    grid = model.backbone.grid
    sides = tuple(side * model.backbone.patch_size for side in grid)
    if images.ndim != 5 or images.shape[3:] != sides:
        raise InputError(f'images has the shape {tuple(images.shape)}: images of {sides} pixels were expected.')
    number = grid[0] * grid[1]
    if masks.ndim != 3 or masks.shape[2] != number or masks.shape[1] % images.shape[1] or len(masks) != len(images):
        raise InputError(f'masks has the shape {tuple(masks.shape)}: some for each image, of {number} patches.')
    expected = (*masks.shape, model.backbone.embed_dim)
    if noise.shape != expected:
        raise InputError(f'noise has the shape {tuple(noise.shape)}: {expected} was expected.')
    if not index < len(images):
        raise InputError(f'images has {len(images)} batches, of which number {index} was asked for.')
    masked = masks[index].bool()
    numbers = masked.sum(dim=1)
    if not (numbers == numbers[0]).all() or not 0 < int(numbers[0]) < number:
        raise InputError(f'masks has {numbers.tolist()} masked patches: as many in every mask, and not all.')
    mask = PatchMask(
        visible=(~masked).nonzero()[:, 1].view(len(masked), -1),
        predict=masked.nonzero()[:, 1].view(len(masked), 1, -1),
        image_index=torch.arange(images.shape[1]).repeat_interleave(len(masked) // images.shape[1]),
        grid=grid,
    )
    return images[index].float(), mask, noise[index].float()


def _with_noise(model: MaskedImageModeling, noise: Tensor) -> None:
    """Let the decoder draw the recorded noise."""
    neck = model.branches['latent'].neck
    assert isinstance(neck, ConvolutionalDecoder)
    neck.noise = lambda like, number: noise  # type: ignore[method-assign]


@torch.no_grad()
def _targets_of_all(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> Tensor:
    """Targets of all patches of the images, ``[B, N, D]``."""
    assert model.teacher is not None
    generator = model.branches['latent'].target_generator
    number = mask.num_masks // len(images)
    every = PatchMask(
        visible=mask.visible[::number],
        predict=mask.of_all.visible[::number].unsqueeze(1),
        image_index=mask.image_index[::number],
        grid=mask.grid,
    )
    return generator(images, every, model.teacher.view(images), model.backbone).patches


def _step(fixture: Fixture, layout: Layout) -> dict[str, Any]:
    """States, targets, predictions, losses and gradients of one training step."""
    model = build_model(fixture)
    assert model.teacher is not None
    images, mask, noise = _batch(fixture, 0, model)
    _with_noise(model, noise)
    prenet, depth = fixture.setting('config.prenet_depth'), model.backbone.depth
    view = model.teacher.view(images)
    branches = [view.encode(mean=StateMean((layer,), 'mlp')).mean for layer in range(prenet, depth)]
    step = training.step(model, images, mask, [_GENERATOR, NECK])
    target, prediction = (step.calls[place][0].output for place in (_GENERATOR, NECK))
    patches, cls = step.losses['loss_latent'], step.losses['loss_latent_cls']
    computed = {
        'teacher_branches': torch.stack([branch for branch in branches if branch is not None]),
        'targets': _targets_of_all(model, images, mask),
        'predictions': prediction.patches.flatten(0, 1),
        'predictions_targets': target.patches.flatten(0, 1),
        'cls_predictions': prediction.cls,
        'cls_targets': target.cls,
        'loss': patches + cls,
        'loss_patches': patches,
        'loss_cls': cls,
        'number_masked': np.array(mask.predict.numel()),
    }
    return computed | training.collected(fixture, 'grad/', step.gradients, layout.collect)


def _steps(fixture: Fixture, layout: Layout) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves after each."""
    model, options = build_model(fixture), fixture.setting('optimiser')
    assert model.teacher is not None
    rate, betas, eps, decay = (fixture.setting(f'optimiser.{key}') for key in ('lr', 'betas', 'eps', 'weight_decay'))
    wrapper = training.adamw(model, rate, decay, RULES, betas, eps, options.get('clip_norm'))
    losses, norms, computed = [], [], {}
    for step, momentum in enumerate(fixture.array('steps/ema_decay').tolist()):
        images, mask, noise = _batch(fixture, 1 + step, model)
        _with_noise(model, noise)
        computed[f'steps/targets_{step}'] = _targets_of_all(model, images, mask)
        log = model.train_step({'inputs': images, 'mask': mask}, wrapper)
        losses.append(torch.stack([log[key] for key in ('loss', 'loss_latent', 'loss_latent_cls')]))
        norms.append(log['grad_norm'])
        model.teacher.update(model, momentum, wrapper.skipped)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith('teacher.')}
    computed |= training.collected(fixture, 'steps/student/', own, layout.collect)
    computed |= training.collected(fixture, 'steps/teacher/', model.teacher.state_dict(), layout.collect)
    return {**computed, 'steps/losses': torch.stack(losses), 'steps/grad_norms': torch.stack(norms)}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded data2vec 2.0 run.

    Args:
        fixture: Any run of this layout: other grids, widths, depths, decoders, masks, batches and steps.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    layout = layout_of(fixture)
    computed = _step(fixture, layout)
    if fixture.group('steps/'):
        computed |= _steps(fixture, layout)
    return training.as_arrays(computed)
