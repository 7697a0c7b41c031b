"""Replay of a recorded PiLaMIM run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.converters.pilamim import collect, colour_last, convert_weights, model_config
from mmmim.engine.lars import LARS
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.engine.optim_wrapper import OptimWrapper
from mmmim.engine.schedules import epochwise_min_cosine
from mmmim.models import MaskedImageModeling
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.checkpoint import load_state_dict

from .report import Fixture

#: Whether the targets of a variant are the latents of the predicted patches: the paper's equation 4, the released code.
VARIANTS = {'aligned': True, 'released': False}


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay."""
    return name.startswith('sd/') or name in {
        'images',
        'draw/enc_forward',
        'draw/tgt_forward',
        'probe/linear_weight',
        'probe/linear_bias',
        'lars/w0',
        'lars/b0',
        'lars/grad_w',
        'lars/grad_b',
        'traj/enc_forward',
        'traj/tgt_forward',
        'traj/momentum',
        'sched/epoch',
    }


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU."""
    return 1e-4 if name.startswith('traj/') else 1e-5


def split(fixture: Fixture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with a value per parameter, as a quantity per parameter."""
    result: dict[str, Any] = {}
    for key, array in arrays.items():
        if key.endswith(('/grad_norm', '/final_param_norm')):
            names = fixture.setting('param_names')
            if array.shape != (len(names),):
                raise InputError(f'{key} has the shape {array.shape}, and param_names has {len(names)} names.')
            result |= {f'{key}/{name}': value for name, value in zip(names, array, strict=True)}
        else:
            result[key] = array
    return result


def _heads(fixture: Fixture) -> list[int]:
    """Attention heads of the encoders and of the decoders."""
    return [fixture.setting(f'config.{name}') for name in ('heads', 'dheads')]


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = {key: torch.from_numpy(value).float() for key, value in fixture.group('sd/').items()}
    converted = convert_weights(weights, 'The recorded run')
    settings = fixture.setting('config')
    heads, ratio = _heads(fixture), fixture.setting('config.mask_ratio')
    config = model_config(converted, 'The recorded run', *heads)
    backbone, branches = config['backbone'], config['branches']
    expected = {
        'img': backbone['img_size'],
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'depth': backbone['depth'],
        'pdim': branches['pixels']['neck']['embed_dim'],
        'ldim': branches['latent']['neck']['embed_dim'],
    }
    if wrong := {key: value for key, value in expected.items() if settings.get(key, value) != value}:
        raise InputError(f'The JSON sidecar says otherwise than the recorded weights, which have {wrong}.')
    # Both variants divide by the nominal ratio.
    of_patches = {**branches['pixels']['head'], 'nominal_ratio': ratio}
    branches['pixels']['head'] = branches['latent']['head']['heads']['patches'] = of_patches
    config['data_preprocessor'] = {
        'type': 'mmmim.MIMDataPreprocessor',
        'mean': [0.0] * backbone['in_channels'],
        'std': [1.0] * backbone['in_channels'],
        'bgr_to_rgb': False,
    }
    model = MODELS.build(config)
    load_state_dict(model, converted, 'the recorded run')
    return model.train()


def _order(fixture: Fixture, model: MaskedImageModeling, name: str, *steps: int) -> Tensor:
    """Recorded permutations of the patches, ``[*steps, B, N]``."""
    images, (h, w), size = fixture.array('images'), model.backbone.grid, model.backbone.patch_size
    if images.ndim != 4 or images.shape[2:] != (h * size, w * size):
        raise InputError(f'images has the shape {images.shape}: the weights are of {h} x {w} patches of {size} pixels.')
    order = torch.from_numpy(fixture.array(name)).long()
    if order.shape != (*steps, len(images), h * w):
        raise InputError(f'{name} has the shape {tuple(order.shape)}, {(*steps, len(images), h * w)} was expected.')
    if not torch.equal(order.sort(dim=-1).values, torch.arange(h * w).expand_as(order)):
        raise InputError(f'{name} is no permutation of {h * w} patches.')
    return order


def _mask(fixture: Fixture, model: MaskedImageModeling, order: Tensor) -> PatchMask:
    """The first patches of every order are visible, the others are predicted."""
    total, ratio = order.shape[-1], fixture.setting('config.mask_ratio')
    visible = int(total * (1 - ratio))
    if not 0 < visible < total:
        raise InputError(f'mask_ratio={ratio} of {total} patches leaves {visible} visible: one at least, and not all.')
    return PatchMask(
        visible=order[:, :visible],
        predict=order[:, visible:].unsqueeze(1),
        image_index=torch.arange(len(order)),
        grid=model.backbone.grid,
    )


def _use_variant(model: MaskedImageModeling, variant: str, order: Tensor) -> None:
    """Aligned targets, or those of a recorded order."""
    generator = model.branches['latent'].target_generator
    generator.aligned = VARIANTS[variant]
    generator.draw_order = lambda *sizes: order


def _whole(context: Context) -> Tensor:
    return torch.cat([context.extra, context.visible], dim=1)


def _raster(tokens: Tensor, mask: PatchMask) -> Tensor:
    """Tokens of CLS, visible and predicted patches, with the patches in raster order."""
    place = torch.cat([mask.visible, mask.flat_predict()], dim=1).argsort(dim=1)
    return torch.cat([tokens[:, :1], gather_patches(tokens[:, 1:], place)], dim=1)


@torch.no_grad()
def _decoded(neck: nn.Module, context: Context, mask: PatchMask) -> tuple[Tensor, Tensor]:
    """Inputs of a decoder's first block and predictions of all tokens: CLS, then patches in raster order."""
    seen: list[Tensor] = []
    hooks = [
        neck.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0])),
        neck.blocks[-1].register_forward_hook(lambda block, args, out: seen.append(out)),
    ]
    neck(context, mask)
    for hook in hooks:
        hook.remove()
    first, last = (_raster(tokens, mask) for tokens in seen)
    return first, neck.proj(neck.norm(last))


@torch.no_grad()
def _forward(model: MaskedImageModeling, images: Tensor, mask: PatchMask, order: Tensor) -> dict[str, Any]:
    """Tokens, predictions and masks of one batch."""
    context = model.backbone(images, mask, layers=(-1,))
    assert model.teacher is not None
    seen = model.teacher.backbone(images)
    pixel_inputs, pixels = _decoded(model.branches['pixels'].neck, context, mask)
    latent_inputs, latents = _decoded(model.branches['latent'].neck, context, mask)
    generator = model.branches['pixels'].target_generator
    masked = torch.zeros(order.shape).scatter(1, mask.flat_predict(), 1.0)
    # Vectors of the layout, filled with 0, 1, ...
    numbers = torch.arange(pixels[:1, 1:].numel(), dtype=torch.float32).reshape(1, order.shape[1], -1)
    return {
        'draw/enc_backward': torch.cat([mask.visible, mask.flat_predict()], dim=1).argsort(dim=1),
        'draw/tgt_backward': order.argsort(dim=1),
        'z_vis': _whole(context),
        'enc_pre_norm': context.hidden[0],
        'target_full_shuffled': torch.cat([seen.extra, gather_patches(seen.visible, order)], dim=1),
        'pixdec_in': pixel_inputs,
        'latdec_in': latent_inputs,
        'pred_img': generator.images(pixels[:, 1:], mask.grid),
        'mask_img': generator.images(masked.unsqueeze(-1).expand(-1, -1, generator.out_dim), mask.grid),
        'pred_latent': latents[:, 1:],
        'mask_latent': masked,
        'pred_cls': latents[:, 0],
        'target_cls': seen.extra[:, 0],
        'patch_pixels_order_check': generator.images(colour_last(numbers.permute(2, 0, 1)).permute(1, 2, 0), mask.grid),
    }


def _norms(fixture: Fixture, values: Mapping[str, Tensor], missing: float) -> np.ndarray:
    """Norms of the tensors of the layout, in fp64."""
    tensors = [collect(name, values) for name in fixture.setting('param_names')]
    return np.array([missing if t is None else t.detach().double().norm().item() for t in tensors])


def _variant(
    fixture: Fixture, model: MaskedImageModeling, images: Tensor, mask: PatchMask, variant: str
) -> dict[str, Any]:
    """Targets, losses and gradients of a variant in one batch."""
    targets = model.targets(images, mask, differentiable=False)
    model.zero_grad()
    losses = model.loss(images, mask, targets)
    total = sum(losses.values())
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    every = replace(mask, predict=mask.of_all.visible.unsqueeze(1))
    computed: dict[str, Any] = {
        'target_latent': model.targets(images, every, differentiable=False)['latent'].patches,
        'loss_pixel': losses['loss_pixels'],
        'loss_latent': losses['loss_latent'],
        'loss_cls': losses['loss_latent_cls'],
        'loss_total': total,
    }
    if f'{variant}/grad_norm' in fixture.arrays:
        computed['grad_norm'] = _norms(fixture, gradients, -1.0)
    for name in fixture.group(f'{variant}/grad/'):
        if (gradient := collect(name, gradients)) is not None:
            computed[f'grad/{name}'] = gradient
    return {f'{variant}/{name}': value for name, value in computed.items()}


@torch.no_grad()
def _probe(fixture: Fixture, model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """The linear probe on CLS of whole images: batch norm without weights, then a linear layer."""
    weight, bias = (torch.from_numpy(fixture.array(f'probe/linear_{name}')) for name in ('weight', 'bias'))
    context = model.eval().backbone(images)
    model.train()
    cls = context.extra[:, 0]
    neck = MODELS.build({'type': 'mmpretrain.ClsBatchNormNeck', 'input_features': cls.shape[1]})
    trained = F.linear(neck.train()((cls,))[0], weight, bias)
    return {
        'probe/features': _whole(context),
        'probe/init_weight_std': weight.std(),
        'probe/logits_train': trained,
        'probe/bn_running_mean': neck.bn.running_mean,
        'probe/bn_running_var': neck.bn.running_var,
        'probe/logits_eval': F.linear(neck.eval()((cls,))[0], weight, bias),
    }


def _lars(fixture: Fixture) -> dict[str, Any]:
    """Steps of the probe's optimiser."""
    values = [nn.Parameter(torch.from_numpy(fixture.array(f'lars/{name}0')).clone()) for name in 'wb']
    gradients = [torch.from_numpy(fixture.array(f'lars/grad_{name}')) for name in 'wb']
    optimizer = LARS(values, lr=3.0, momentum=0.9, weight_decay=0.0, eta=1e-3, repeat_first=True)
    steps = []
    for pair in zip(*gradients, strict=True):
        for value, gradient in zip(values, pair, strict=True):
            value.grad = gradient.clone()
        optimizer.step()
        steps.append([value.detach().clone() for value in values])
    weights, biases = (torch.stack(list(values)) for values in zip(*steps, strict=True))
    return {'lars/w': weights, 'lars/b': biases}


def _trajectory(fixture: Fixture, images: Tensor, variant: str) -> dict[str, Any]:
    """Optimiser steps through the training step itself; the teacher moves after each."""
    model = build_model(fixture)
    momenta = fixture.array('traj/momentum')
    orders, target_orders = (_order(fixture, model, f'traj/{name}_forward', len(momenta)) for name in ('enc', 'tgt'))
    decay = fixture.setting('config').get('wd', 0.05)
    groups = parameter_groups(model, fixture.setting('config.lr'), decay, {})
    wrapper = OptimWrapper(torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True))
    losses = []
    assert model.teacher is not None
    for momentum, order, target_order in zip(momenta.tolist(), orders, target_orders, strict=True):
        _use_variant(model, variant, target_order)
        mask = _mask(fixture, model, order)
        losses.append(model.train_step({'inputs': images, 'mask': mask}, wrapper)['loss'])
        model.teacher.update(model, momentum, wrapper.skipped)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    computed = {'loss': torch.stack(losses), 'final_target_cls': weights['teacher.backbone.extra_tokens']}
    if f'traj/{variant}/final_param_norm' in fixture.arrays:
        computed['final_param_norm'] = _norms(fixture, weights, float('nan'))
    return {f'traj/{variant}/{name}': value for name, value in computed.items()}


def _schedules(fixture: Fixture) -> dict[str, Any]:
    """Learning rates of 800 epochs of pre-training, 40 of them warm-up, and of 100 of the probe, 10 of them warm-up."""
    epochs = fixture.array('sched/epoch').tolist()
    probe = [3.0 * epochwise_min_cosine(epoch, 100, epochs=100, warmup_epochs=10) for epoch in range(100)]
    rates = [1.5e-4 * 2048 / 256 * epochwise_min_cosine(e, 800, epochs=800, warmup_epochs=40) for e in epochs]
    return {'sched/lr': np.array(rates), 'sched/probe_lr': np.array(probe)}


def _start(fixture: Fixture) -> dict[str, Any]:
    """What a model of the released code is before it is trained: a teacher with weights of its own."""
    weights = {key: torch.from_numpy(value) for key, value in fixture.group('sd/').items()}
    config = model_config(convert_weights(weights), 'The recorded run', *_heads(fixture))
    state = MODELS.build({**config, 'teacher_init': 'own'}).state_dict()
    same = all(torch.equal(value, state[key.removeprefix('teacher.')]) for key, value in state.items())
    return {'init/target_equals_encoder': int(same)}


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded PiLaMIM run.

    Args:
        fixture: Any run of this layout: other images, patches, ratios, depths, widths and heads.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model = build_model(fixture)
    images = torch.from_numpy(fixture.array('images')).float()
    order, target_order = (_order(fixture, model, f'draw/{name}_forward') for name in ('enc', 'tgt'))
    mask = _mask(fixture, model, order)
    computed: dict[str, Any] = _forward(model, images, mask, target_order)
    for variant in VARIANTS:
        _use_variant(model, variant, target_order)
        computed |= _variant(fixture, model, images, mask, variant)
    # A recording may lack whole parts, but not what a part of it starts from.
    for variant in VARIANTS:
        if fixture.group(f'traj/{variant}/'):
            computed |= _trajectory(fixture, images, variant)
    computed |= _start(fixture)
    if fixture.group('probe/'):
        computed |= _probe(fixture, model, images)
    if fixture.group('lars/'):
        computed |= _lars(fixture)
    if fixture.group('sched/'):
        computed |= _schedules(fixture)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in computed.items()
    }
