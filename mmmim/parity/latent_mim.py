"""Replay of a recorded Latent MIM run."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.converters.latent_mim import NECK, collect, convert_weights, model_config
from mmmim.engine.schedules import cosine, warmup_cosine
from mmmim.models import MaskedImageModeling
from mmmim.models.functional import mean_similarity
from mmmim.models.layers import PatchEmbed
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .report import Fixture

#: Weight decay of the recipe: none of what has one axis, of the patch embedding and of the decoder's.
RULES: dict[str, dict | None] = {'no_decay': {'match': r'bias$|norm\w*\.|\.embed\.|patch_embed\.', 'decay_mult': 0.0}}

#: Their keys' part has no gradient: softmax does not see it.
KEY_BIASES = ('qkv.bias', 'kv_proj.bias')
#: Without the similarity constraint neither have these: standardised predictions do not change with them.
LAST_BIASES = ('decoder.norm.bias', 'decoder.head.bias')


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay."""
    return name in ('images', 'eval/images', 'sched/epoch') or name.startswith(
        ('sd/', 'draw/', 'traj/row_offset', 'traj/col_offset', 'traj/noise', 'traj/momentum', 'traj/sim_target')
    )


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU.

    The gradient of the biases of keys is zero in exact arithmetic, and AdamW turns its rounding into steps: after the
    trajectory the norms of the biases that hold them agree less well.
    """
    if name.startswith('traj/final_param_norm/') and name.endswith(KEY_BIASES):
        return 1e-2
    return 1e-4 if name.startswith('traj/') else 1e-5


def floor(fixture: Fixture) -> Callable[[str], float]:
    """The least scale of errors.

    Of gradients, the largest norm of one: the standardisation of predictions removes what the last bias and the last
    norm of the decoder add to all patches, so nearly all of their gradient cancels; what is left is smaller than the
    rounding of what cancelled. Of the constraints ``w * (s - target)**2``, ``w * |s - target|``, which makes the
    tolerance one of the similarity ``s``. Of biases without a gradient after the trajectory, what makes the tolerance a
    few times the way that AdamW may have gone.
    """
    gradients = 'grad_norm' in fixture.arrays or fixture.group('grad/')
    largest = float(fixture.array('grad_norm').max(initial=0.0)) if gradients else 0.0
    coefficient = fixture.setting('config.sim_coeff')
    idle = KEY_BIASES if coefficient else (*KEY_BIASES, *LAST_BIASES)

    def least(name: str) -> float:
        if name in ('loss_sim_pred', 'loss_sim_vis'):
            return math.sqrt(abs(float(fixture.array(name)) * coefficient))
        if name.startswith('traj/final_param_norm/') and name.endswith(idle):
            way = fixture.setting('config.lr') * len(fixture.array('traj/momentum'))
            return 3 * way / (tolerance(name) or 1.0)
        return largest if name.startswith('grad') else 0.0

    return least


def split(fixture: Fixture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with a value per parameter, as a quantity per parameter."""
    names = {'grad_norm': 'grad_norm_names', 'final_param_norm': 'param_names'}
    return training.split_by_name(fixture, arrays, names)


def _config(fixture: Fixture) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config of the model, and its recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    converted = convert_weights(training.recorded_weights(fixture, 'sd/'), 'The recorded run')
    heads, decoder_heads, temperature, coefficient, similarity = (
        fixture.setting(f'config.{name}') for name in ('heads', 'dheads', 'tau', 'sim_coeff', 'sim_trg')
    )
    config = model_config(converted, 'The recorded run', heads, decoder_heads)
    backbone, branch = config['backbone'], config['branches']['latent']
    expected = {
        'grid': branch['neck']['grid'][0],
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'depth': backbone['depth'],
        'ddim': branch['neck']['embed_dim'],
        'ddepth': branch['neck']['depth'],
        'mlp_dim': next(iter(backbone['projector_dims']), None),
    }
    training.check_settings(fixture.setting('config'), expected)
    parts = branch['head']['heads']
    parts['discrimination']['temperature'] = temperature
    parts['similarity'].update(weight=coefficient, target=similarity)
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    return config, converted


def build_model(fixture: Fixture, **branch: Any) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Args:
        fixture: The recording, with its sidecar.
        branch: Options of the parts of the branch, by part, other than those of the recipe.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    config, weights = _config(fixture)
    for part, options in branch.items():
        config['branches']['latent'][part].update(options)
    return training.recorded_model(config, weights)


def _shaped(fixture: Fixture, name: str, *shape: int) -> Tensor:
    array = fixture.array(name)
    if array.shape != shape:
        raise InputError(f'{name} has the shape {array.shape}, {shape} was expected.')
    return torch.from_numpy(array)


def _mask(fixture: Fixture, prefix: str, step: int | None = None, steps: tuple[int, ...] = ()) -> PatchMask:
    """Masks from recorded draws: the patches with the least noise are visible, in ascending order, the others targets.

    Offsets inside the cells are not recorded, or zero, where patches touch each other.
    """
    images, grid, gap = fixture.array('images'), fixture.setting('config.grid'), fixture.setting('config.gap')
    side, visible = grid * (fixture.setting('config.patch') + gap), fixture.setting('config.num_vis')
    if images.ndim != 4 or images.shape[2:] != (side, side):
        raise InputError(f'images has the shape {images.shape}: grid * (patch + gap) is {side} pixels per side.')
    # With a single target patch there is nothing to tell it from.
    if not 0 < visible < grid**2 - 1:
        raise InputError(f'num_vis={visible} of {grid**2} patches: one or more, and all but two at most, are visible.')

    def draw(name: str, *shape: int) -> Tensor:
        drawn = _shaped(fixture, prefix + name, *steps, len(images), *shape)
        return drawn if step is None else drawn[step]

    order = draw('noise', grid**2).argsort(dim=1)
    names = [name for name in ('row_offset', 'col_offset') if gap or prefix + name in fixture.arrays]
    offsets = [draw(name, grid, grid).long() for name in names]
    for name, drawn in zip(names, offsets, strict=True):
        if ((drawn < 0) | (drawn > gap)).any():
            raise InputError(f'{prefix}{name} has offsets outside of 0 to {gap}, the gap.')
    return PatchMask(
        visible=order[:, :visible],
        predict=order[:, visible:].unsqueeze(1),
        image_index=torch.arange(len(images)),
        grid=(grid, grid),
        offsets=torch.stack(offsets, dim=-1).flatten(1, 2) if gap else None,
    )


def _step(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Patches, tokens, predictions and losses of one training step, and its gradients."""
    places = [
        *('backbone.patch_embed', 'backbone.norm', 'backbone.projector', 'teacher.backbone.norm'),
        *('branches.latent.target_generator', f'{NECK}.blocks.0', NECK),
    ]
    step = training.step(model, images, mask, places)
    embedding, final_norm, projected, norm_of_teacher, target, block, prediction = (
        step.calls[place][0] for place in places
    )
    predicted, wanted = prediction.output.patches, target.output.patches
    tokens, number = projected.output, model.backbone.num_extra_tokens
    computed = {
        'patches_all': _patches(model.backbone.patch_size, *embedding.args),
        'vis_idx': mask.visible,
        'trg_idx': mask.flat_predict(),
        'enc_pre_norm': final_norm.args[0],
        'enc_post_norm': final_norm.output,
        'z_vis': tokens,
        'trg_post_norm': norm_of_teacher.output,
        'z_trg': wanted,
        'dec_query_init': block.args[0],
        'dec_kv': block.args[1],
        'dec_block0_out': block.output,
        'pred': predicted,
        'loss_patch_disc': step.losses['loss_latent'],
        'loss_sim_pred': step.losses['loss_latent_similarity_predicted'],
        'loss_sim_vis': step.losses['loss_latent_similarity_visible'],
        'loss_total': step.losses['loss'],
        'avg_sim_pred': mean_similarity(predicted).mean(),
        'avg_sim_vis': mean_similarity(tokens[:, number:]).mean(),
        'avg_sim_trg': mean_similarity(wanted).mean(),
    }
    return computed, step.gradients


@torch.no_grad()
def _patches(size: int, images: Tensor, mask: PatchMask) -> Tensor:
    """All patches as the encoder cuts them, flattened as (row, column, colour): ``[B, N, patch_size**2 * C]``."""
    shape = (images.shape[1], size, size)
    order = torch.arange(math.prod(shape)).view(shape).permute(1, 2, 0).flatten()
    # Its weights those of a permutation, the embedding of a patch is the patch.
    embedding = PatchEmbed(size, len(order), shape[0])
    embedding.weight.copy_(torch.eye(len(order))[order].view_as(embedding.weight))
    embedding.bias.zero_()
    return embedding(images, mask.of_all)


def _variants(fixture: Fixture, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """Losses, and what they compare, of training steps of other configs."""
    head = _config(fixture)[0]['branches']['latent']['head']['heads']
    plain = copy.deepcopy(head)
    plain['discrimination']['standardize'] = False
    regression = {**head, 'discrimination': {'type': 'mmmim.RegressionHead', 'loss': 'mse'}}
    target = 'branches.latent.target_generator'

    def step(**branch: Any) -> training.Step:
        return training.step(build_model(fixture, **branch), images, mask, [target, NECK])

    whole = step(target_generator={'sees': 'all'})
    without_cues = step(neck={'visual_cues': False})
    squared = step(target_generator={'normalize': 'standard'}, head={'heads': regression})
    return {
        'variant/full_target/z_trg': whole.calls[target][0].output.patches,
        'variant/full_target/loss_total': whole.losses['loss'],
        'variant/no_cues/pred': without_cues.calls[NECK][0].output.patches,
        'variant/no_cues/loss_total': without_cues.losses['loss'],
        'loss_variant/no_pred_standardise': step(head={'heads': plain}).losses['loss_latent'],
        'loss_variant/norm_l2': squared.losses['loss_latent'],
    }


@torch.no_grad()
def _evaluation(model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """Tokens of whole images, and the feature of the nearest-neighbour evaluation."""
    with training.listen(model.eval(), ['backbone.norm']) as calls:
        context = model.backbone(images)
    model.train()
    normed = calls['backbone.norm'][0]
    patches = normed.args[0][:, context.extra.shape[1] :]
    return {
        'eval/pre_norm': normed.args[0],
        'eval/post_norm': normed.output,
        'eval/projected': torch.cat([context.extra, context.visible], dim=1),
        'eval/knn_feature': F.normalize(patches.mean(dim=1), dim=-1),
    }


def _trajectory(fixture: Fixture, images: Tensor) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves at the start of each."""
    model = build_model(fixture)
    momenta, similarities = fixture.array('traj/momentum'), fixture.array('traj/sim_target')
    if len(momenta) != len(similarities):
        raise InputError(f'traj/momentum has {len(momenta)} steps and traj/sim_target {len(similarities)}.')
    decay = fixture.setting('config').get('wd', 0.05)
    wrapper = training.adamw(model, fixture.setting('config.lr'), decay, RULES)
    losses = []
    assert model.teacher is not None
    for step, momentum in enumerate(momenta.tolist()):
        model.teacher.update(model, momentum, wrapper.skipped)
        model.branches['latent'].head.heads['similarity'].target = float(similarities[step])
        mask = _mask(fixture, 'traj/', step, momenta.shape)
        losses.append(model.train_step({'inputs': images, 'mask': mask}, wrapper)['loss'])
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    computed = {
        'traj/loss': torch.stack(losses),
        'traj/final_target_cls_token': weights['teacher.backbone.extra_tokens'],
        'traj/final_encoder_cls_token': weights['backbone.extra_tokens'],
    }
    if 'traj/final_param_norm' in fixture.arrays:
        computed['traj/final_param_norm'] = training.norms(
            fixture.setting('param_names'), weights, collect, float('nan')
        )
    return computed


def _schedules(fixture: Fixture) -> dict[str, Any]:
    """The recipe's schedules at fractional epochs of 800, warm-up of 40."""
    epochs = fixture.array('sched/epoch').tolist()
    rate = {'start': 0.25, 'base': 1.0, 'final': 0.25, 'warmup_ratio': 40 / 800}
    return {
        'sched/lr': np.array([1.5e-4 * 4096 / 256 * warmup_cosine(e, 800, **rate) for e in epochs]),
        'sched/momentum': np.array([cosine(e, 800, 0.99, 1.0) for e in epochs]),
        'sched/sim_target': np.array([cosine(e, 800, 0.75, 0.25) for e in epochs]),
    }


def _start(fixture: Fixture) -> dict[str, Any]:
    """What a model is before it is trained."""
    state = MODELS.build(_config(fixture)[0]).state_dict()
    same = all(torch.equal(value, state[key.removeprefix('teacher.')]) for key, value in state.items())
    return {'init/target_equals_encoder': int(same), 'init/mask_token_absmax': state[f'{NECK}.mask_token'].abs().max()}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded Latent MIM run.

    Args:
        fixture: Any run of this layout: other grids, gaps, depths, widths and temperatures.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model = build_model(fixture)
    images, mask = torch.from_numpy(fixture.array('images')).float(), _mask(fixture, 'draw/')
    computed, gradients = _step(model, images, mask)
    if 'grad_norm' in fixture.arrays:
        computed['grad_norm'] = training.norms(fixture.setting('grad_norm_names'), gradients, collect, -1.0)
    computed |= training.collected(fixture, 'grad/', gradients, collect)
    computed |= _variants(fixture, images, mask) | _start(fixture)
    # A recording may lack whole parts, but not what a part of it starts from.
    if fixture.group('eval/'):
        computed |= _evaluation(model, torch.from_numpy(fixture.array('eval/images')).float())
    if fixture.group('traj/'):
        computed |= _trajectory(fixture, images)
    if fixture.group('sched/'):
        computed |= _schedules(fixture)
    return training.as_arrays(computed)
