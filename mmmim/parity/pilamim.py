"""Replay of a recorded PiLaMIM run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmim.converters.pilamim import LATENT_NECK, PIXEL_NECK, collect, colour_last, convert_weights, model_config
from mmmim.engine.lars import LARS
from mmmim.engine.schedules import epochwise_min_cosine
from mmmim.evaluation.probes.trained import ProbeHead
from mmmim.models import MaskedImageModeling
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError

from . import training
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
    return training.split_by_name(fixture, arrays, {'grad_norm': 'param_names', 'final_param_norm': 'param_names'})


def _config(fixture: Fixture) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config of the model, and its recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    converted = convert_weights(training.recorded_weights(fixture, 'sd/'), 'The recorded run')
    heads, decoder_heads, ratio = (fixture.setting(f'config.{name}') for name in ('heads', 'dheads', 'mask_ratio'))
    config = model_config(converted, 'The recorded run', heads, decoder_heads)
    backbone, branches = config['backbone'], config['branches']
    expected = {
        'img': backbone['img_size'],
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'depth': backbone['depth'],
        'pdim': branches['pixels']['neck']['embed_dim'],
        'ldim': branches['latent']['neck']['embed_dim'],
    }
    training.check_settings(fixture.setting('config'), expected)
    # Both variants divide by the nominal ratio.
    of_patches = {**branches['pixels']['head'], 'nominal_ratio': ratio}
    branches['pixels']['head'] = branches['latent']['head']['heads']['patches'] = of_patches
    config['data_preprocessor'] = training.images_as_they_are(backbone['in_channels'])
    return config, converted


def build_model(fixture: Fixture, variant: str = 'aligned') -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Args:
        fixture: The recording, with its sidecar.
        variant: Variant of the targets, from :data:`VARIANTS`.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    config, weights = _config(fixture)
    config['branches']['latent']['target_generator']['aligned'] = VARIANTS[variant]
    return training.recorded_model(config, weights)


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


def _draw(model: MaskedImageModeling, order: Tensor) -> None:
    """Let a recorded order be what is drawn for targets that are not aligned."""
    model.branches['latent'].target_generator.draw_order = lambda *sizes: order


def _raster(tokens: Tensor, mask: PatchMask) -> Tensor:
    """Tokens of CLS, visible and predicted patches, with the patches in raster order."""
    place = torch.cat([mask.visible, mask.flat_predict()], dim=1).argsort(dim=1)
    return torch.cat([tokens[:, :1], gather_patches(tokens[:, 1:], place)], dim=1)


@torch.no_grad()
def _decoded(model: MaskedImageModeling, step: training.Step, name: str, mask: PatchMask) -> tuple[Tensor, Tensor]:
    """Inputs of a decoder's first block and predictions of all tokens: CLS, then patches in raster order."""
    neck: Any = model.get_submodule(name)
    first, last = (step.calls[f'{name}.blocks.{i}'][0] for i in (0, len(neck.blocks) - 1))
    # Training predicts the masked patches; the recording has what the same layer makes of the others, too.
    seen = neck.proj(neck.norm(last.output[:, : 1 + mask.visible.shape[1]]))
    predicted = step.calls[name][0].output.patches
    return _raster(first.args[0], mask), _raster(torch.cat([seen, predicted], dim=1), mask)


def _step(fixture: Fixture, images: Tensor, mask: PatchMask, order: Tensor, variant: str) -> dict[str, Any]:
    """Tokens, predictions, masks, losses and gradients of one training step; its targets, of all patches."""
    model, targets = build_model(fixture, variant), 'branches.latent.target_generator'
    _draw(model, order)
    places = ['backbone.norm', 'teacher.backbone', targets]
    for neck in (PIXEL_NECK, LATENT_NECK):
        last = len(model.get_submodule(neck).blocks) - 1
        places += [neck, f'{neck}.blocks.0', f'{neck}.blocks.{last}']
    step = training.step(model, images, mask, places)
    own = {
        'target_latent': training.targets_of_all(model, images, mask, targets).patches,
        'loss_pixel': step.losses['loss_pixels'],
        'loss_latent': step.losses['loss_latent'],
        'loss_cls': step.losses['loss_latent_cls'],
        'loss_total': step.losses['loss'],
    }
    if f'{variant}/grad_norm' in fixture.arrays:
        own['grad_norm'] = training.norms(fixture.setting('param_names'), step.gradients, collect, -1.0)
    computed = _forward(model, step, mask, order)
    computed |= {f'{variant}/{name}': value for name, value in own.items()}
    return computed | training.collected(fixture, f'{variant}/grad/', step.gradients, collect)


def _forward(model: MaskedImageModeling, step: training.Step, mask: PatchMask, order: Tensor) -> dict[str, Any]:
    """Tokens, predictions and masks of a training step, which are those of both variants."""
    final_norm = step.calls['backbone.norm'][0]
    seen = step.calls['teacher.backbone'][0].output
    pixel_inputs, pixels = _decoded(model, step, PIXEL_NECK, mask)
    latent_inputs, latents = _decoded(model, step, LATENT_NECK, mask)
    generator = model.branches['pixels'].target_generator
    masked = torch.zeros(order.shape).scatter(1, mask.flat_predict(), 1.0)
    # Vectors of the layout, filled with 0, 1, ...
    numbers = torch.arange(pixels[:1, 1:].numel(), dtype=torch.float32).reshape(1, order.shape[1], -1)
    return {
        'draw/enc_backward': torch.cat([mask.visible, mask.flat_predict()], dim=1).argsort(dim=1),
        'draw/tgt_backward': order.argsort(dim=1),
        'z_vis': final_norm.output,
        'enc_pre_norm': final_norm.args[0],
        'target_full_shuffled': torch.cat([seen.extra, gather_patches(seen.visible, order)], dim=1),
        'pixdec_in': pixel_inputs,
        'latdec_in': latent_inputs,
        'pred_img': generator.images(pixels[:, 1:], mask.grid),
        'mask_img': generator.images(masked.unsqueeze(-1).expand(-1, -1, generator.out_dim), mask.grid),
        'pred_latent': latents[:, 1:],
        'mask_latent': masked,
        'pred_cls': step.calls[LATENT_NECK][0].output.cls,
        'target_cls': step.calls['branches.latent.target_generator'][0].output.cls,
        'patch_pixels_order_check': generator.images(colour_last(numbers.permute(2, 0, 1)).permute(1, 2, 0), mask.grid),
    }


@torch.no_grad()
def _probe(fixture: Fixture, model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """The linear probe on CLS of whole images: batch norm without weights, then a linear layer."""
    weight, bias = (torch.from_numpy(fixture.array(f'probe/linear_{name}')) for name in ('weight', 'bias'))
    context = model.eval().backbone(images)
    model.train()
    cls = context.extra[:, 0]
    probe = ProbeHead(weight.shape[1], weight.shape[0])
    probe.linear.load_state_dict({'weight': weight, 'bias': bias})
    trained = probe.train()(cls)
    return {
        'probe/features': torch.cat([context.extra, context.visible], dim=1),
        'probe/init_weight_std': weight.std(),
        'probe/logits_train': trained,
        'probe/bn_running_mean': probe.norm.running_mean,
        'probe/bn_running_var': probe.norm.running_var,
        'probe/logits_eval': probe.eval()(cls),
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
    model = build_model(fixture, variant)
    momenta = fixture.array('traj/momentum')
    orders, target_orders = (_order(fixture, model, f'traj/{name}_forward', len(momenta)) for name in ('enc', 'tgt'))
    decay = fixture.setting('config').get('wd', 0.05)
    wrapper = training.adamw(model, fixture.setting('config.lr'), decay, {})
    losses = []
    assert model.teacher is not None
    for momentum, order, target_order in zip(momenta.tolist(), orders, target_orders, strict=True):
        _draw(model, target_order)
        mask = _mask(fixture, model, order)
        losses.append(model.train_step({'inputs': images, 'mask': mask}, wrapper)['loss'])
        model.teacher.update(model, momentum, wrapper.skipped)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    computed = {'loss': torch.stack(losses), 'final_target_cls': weights['teacher.backbone.extra_tokens']}
    if f'traj/{variant}/final_param_norm' in fixture.arrays:
        computed['final_param_norm'] = training.norms(fixture.setting('param_names'), weights, collect, float('nan'))
    return {f'traj/{variant}/{name}': value for name, value in computed.items()}


def _schedules(fixture: Fixture) -> dict[str, Any]:
    """Learning rates of 800 epochs of pre-training, 40 of them warm-up, and of 100 of the probe, 10 of them warm-up."""
    epochs = fixture.array('sched/epoch').tolist()
    probe = [3.0 * epochwise_min_cosine(epoch, 100, epochs=100, warmup_epochs=10) for epoch in range(100)]
    rates = [1.5e-4 * 2048 / 256 * epochwise_min_cosine(e, 800, epochs=800, warmup_epochs=40) for e in epochs]
    return {'sched/lr': np.array(rates), 'sched/probe_lr': np.array(probe)}


def _start(fixture: Fixture) -> dict[str, Any]:
    """What a model of the released code is before it is trained: a teacher with weights of its own."""
    state = MODELS.build({**_config(fixture)[0], 'teacher_init': 'own'}).state_dict()
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
    computed: dict[str, Any] = {}
    for variant in VARIANTS:
        computed |= _step(fixture, images, mask, target_order, variant)
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
    return training.as_arrays(computed)
