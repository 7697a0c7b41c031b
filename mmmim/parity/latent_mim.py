"""Replay of a recorded Latent MIM run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.converters.latent_mim import NECK, collect, convert_weights, model_config
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.engine.optim_wrapper import OptimWrapper
from mmmim.engine.schedules import cosine, warmup_cosine
from mmmim.models import LatentTarget, MaskedImageModeling
from mmmim.models.functional import mean_similarity, patch_discrimination
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.checkpoint import load_state_dict

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
    keys = {'grad_norm': 'grad_norm_names', 'traj/final_param_norm': 'param_names'}
    result: dict[str, Any] = {}
    for key, array in arrays.items():
        if key in keys:
            names = fixture.setting(keys[key])
            if array.shape != (len(names),):
                raise InputError(f'{key} has the shape {array.shape}, and {keys[key]} has {len(names)} names.')
            result |= {f'{key}/{name}': value for name, value in zip(names, array, strict=True)}
        else:
            result[key] = array
    return result


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = {key: torch.from_numpy(value).float() for key, value in fixture.group('sd/').items()}
    converted = convert_weights(weights, 'The recorded run')
    settings = fixture.setting('config')
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
    if wrong := {key: value for key, value in expected.items() if settings.get(key, value) != value}:
        raise InputError(f'The JSON sidecar says otherwise than the recorded weights, which have {wrong}.')
    parts = branch['head']['heads']
    parts['discrimination']['temperature'] = temperature
    parts['similarity'].update(weight=coefficient, target=similarity)
    channels = backbone['in_channels']
    config['data_preprocessor'] = {
        'type': 'mmmim.MIMDataPreprocessor',
        'mean': [0.0] * channels,
        'std': [1.0] * channels,
        'bgr_to_rgb': False,
    }
    model = MODELS.build(config)
    load_state_dict(model, converted, 'the recorded run')
    return model.train()


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


def _tokens(context: Any) -> Tensor:
    return torch.cat([context.extra, context.visible], dim=1)


def _forward(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """Patches, tokens, predictions and losses of one batch, gradients left in the parameters."""
    branch, teacher = model.branches['latent'], model.teacher
    assert teacher is not None
    patches = _patches(model, images, mask)
    context = model.backbone(images, mask, layers=(-1,))
    with torch.no_grad():
        seen = teacher.backbone(images, mask.of_predicted, layers=(-1,))
    targets = model.targets(images, mask, differentiable=False)
    queries, source = branch.neck.inputs(context, mask)
    prediction = branch.neck(context, mask)
    losses = branch.head.loss(prediction, targets['latent'], context)
    sum(losses.values()).backward()
    head = branch.head.heads
    target = targets['latent'].patches
    standard = LatentTarget(model.backbone.embed_dim, sees='predicted', normalize='standard')
    standardised = standard(images, mask, teacher, model.backbone).patches
    teacher.forget()
    return {
        'patches_all': patches,
        'vis_idx': mask.visible,
        'trg_idx': mask.flat_predict(),
        'enc_pre_norm': context.hidden[0],
        'enc_post_norm': model.backbone.norm(context.hidden[0]),
        'z_vis': _tokens(context),
        'trg_post_norm': teacher.backbone.norm(seen.hidden[0]),
        'z_trg': target,
        'dec_query_init': queries,
        'dec_kv': source,
        'dec_block0_out': branch.neck.blocks[0](queries, source),
        'pred': prediction.patches,
        'loss_patch_disc': losses['loss'],
        'loss_sim_pred': losses['loss_similarity_predicted'],
        'loss_sim_vis': losses['loss_similarity_visible'],
        'loss_total': sum(losses.values()),
        'avg_sim_pred': mean_similarity(prediction.patches).mean(),
        'avg_sim_vis': mean_similarity(context.visible).mean(),
        'avg_sim_trg': mean_similarity(target).mean(),
        'loss_variant/no_pred_standardise': patch_discrimination(
            prediction.patches, target, head['discrimination'].temperature, standardize=False
        ),
        'loss_variant/norm_l2': F.mse_loss(prediction.patches, standardised),
    }


def _patches(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> Tensor:
    """All patches as the encoder cuts them, flattened as (row, column, colour): ``[B, N, patch_size**2 * C]``."""
    size, channels = model.backbone.patch_size, images.shape[1]
    pixels = MODELS.build(
        {'type': 'mmmim.PixelTarget', 'patch_size': size, 'normalize': False, 'in_channels': channels}
    )
    every = replace(mask, predict=mask.of_all.visible.unsqueeze(1))
    return pixels(images, every, None, pixels).patches


@torch.no_grad()
def _variants(model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """The target encoder on all patches, and the decoder without visual cues."""
    branch, teacher = model.branches['latent'], model.teacher
    full = LatentTarget(model.backbone.embed_dim, sees='all')(images, mask, teacher, model.backbone)
    targets = model.targets(images, mask, differentiable=False)['latent']
    context = model.backbone(images, mask)
    computed = {
        'variant/full_target/z_trg': full.patches,
        'variant/full_target/loss_total': sum(branch.head.loss(branch.neck(context, mask), full, context).values()),
    }
    branch.neck.visual_cues = False
    prediction = branch.neck(context, mask)
    branch.neck.visual_cues = True
    computed['variant/no_cues/pred'] = prediction.patches
    computed['variant/no_cues/loss_total'] = sum(branch.head.loss(prediction, targets, context).values())
    return computed


@torch.no_grad()
def _evaluation(model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """Tokens of whole images, and the feature of the nearest-neighbour evaluation."""
    context = model.eval().backbone(images, layers=(-1,))
    model.train()
    raw = context.hidden[0]
    return {
        'eval/pre_norm': raw,
        'eval/post_norm': model.backbone.norm(raw),
        'eval/projected': _tokens(context),
        'eval/knn_feature': F.normalize(raw[:, context.extra.shape[1] :].mean(dim=1), dim=-1),
    }


def _norms(names: list[str], values: Mapping[str, Tensor], missing: float) -> np.ndarray:
    """Norms of the tensors of the layout, in fp64."""
    tensors = [collect(name, values) for name in names]
    return np.array([missing if t is None else t.detach().double().norm().item() for t in tensors])


def _trajectory(fixture: Fixture, images: Tensor) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves at the start of each."""
    model = build_model(fixture)
    momenta, similarities = fixture.array('traj/momentum'), fixture.array('traj/sim_target')
    if len(momenta) != len(similarities):
        raise InputError(f'traj/momentum has {len(momenta)} steps and traj/sim_target {len(similarities)}.')
    decay = fixture.setting('config').get('wd', 0.05)
    groups = parameter_groups(model, fixture.setting('config.lr'), decay, RULES)
    wrapper = OptimWrapper(torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True))
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
        computed['traj/final_param_norm'] = _norms(fixture.setting('param_names'), weights, float('nan'))
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
    config = model_config(
        convert_weights({k: torch.from_numpy(v) for k, v in fixture.group('sd/').items()}),
        num_heads=fixture.setting('config.heads'),
        decoder_num_heads=fixture.setting('config.dheads'),
    )
    state = MODELS.build(config).state_dict()
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
    computed: dict[str, Any] = _forward(model, images, mask)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if 'grad_norm' in fixture.arrays:
        computed['grad_norm'] = _norms(fixture.setting('grad_norm_names'), gradients, -1.0)
    for name in fixture.group('grad/'):
        if (gradient := collect(name, gradients)) is not None:
            computed[f'grad/{name}'] = gradient
    computed |= _variants(model, images, mask) | _start(fixture)
    # A recording may lack whole parts, but not what a part of it starts from.
    if fixture.group('eval/'):
        computed |= _evaluation(model, torch.from_numpy(fixture.array('eval/images')).float())
    if fixture.group('traj/'):
        computed |= _trajectory(fixture, images)
    if fixture.group('sched/'):
        computed |= _schedules(fixture)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in computed.items()
    }
