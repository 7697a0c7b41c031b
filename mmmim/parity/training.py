"""What all replays have in common: the model of a recording, its training step, and who listens to it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmim.checkpoints import load_state_dict
from mmmim.engine.optim_constructor import Rules, parameter_groups
from mmmim.engine.optim_wrapper import OptimWrapper
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import TransformerBlock
from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.utils import InputError

from .report import Fixture

#: Gives the tensor that the recording has under a name, made of mmmim's; None where these lack one of its parts.
Collect = Callable[[str, Mapping[str, Tensor]], Tensor | None]


@dataclass
class Call:
    """One call of a module: its arguments by position, and what it returned."""

    args: tuple[Any, ...]
    output: Any


@dataclass
class Step:
    """A training step.

    Attributes:
        losses: What the step returns: every loss by its name in the log, and their sum ``loss``.
        calls: Calls of every module that was listened to, in order.
        gradients: Gradients of the whole loss, by the names of the parameters that have one.
    """

    losses: dict[str, Tensor]
    calls: dict[str, list[Call]]
    gradients: dict[str, Tensor]


@contextmanager
def listen(model: nn.Module, places: Iterable[str]) -> Iterator[dict[str, list[Call]]]:
    """Keep every call of some modules while the context lasts.

    Args:
        model: The model that holds the modules.
        places: Names of its submodules, e.g. ``'backbone.norm'``; nothing changes in what they do.

    Yields:
        The calls by place, which fill as the model runs.
    """
    calls: dict[str, list[Call]] = {place: [] for place in places}

    def keep(place: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda module, args, output: calls[place].append(Call(args, output))

    modules = {place: model.get_submodule(place) for place in calls}
    hooks = [module.register_forward_hook(keep(place)) for place, module in modules.items()]
    blocks = [module for module in modules.values() if isinstance(module, TransformerBlock)]
    for block in blocks:
        block.whole = True
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
        for block in blocks:
            block.whole = False


def step(model: MaskedImageModeling, images: Tensor, mask: PatchMask, places: Iterable[str] = ()) -> Step:
    """One training step of a model, of learning rate 0: weights and teacher stay as they are.

    Args:
        model: The model that runs the step.
        images: ``[B, C, H, W]``, as a data loader gives them.
        mask: Mask of the batch.
        places: Modules to listen to, see :func:`listen`.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.0, fused=True)
    gradients: dict[str, Tensor] = {}

    def keep(*_: Any) -> None:
        gradients.update({name: p.grad.clone() for name, p in parameters.items() if p.grad is not None})

    optimizer.register_step_pre_hook(keep)
    with listen(model, places) as calls:
        losses = model.train_step({'inputs': images, 'mask': mask}, OptimWrapper(optimizer))
    return Step(losses, calls, gradients)


def targets_of_all(model: MaskedImageModeling, images: Tensor, mask: PatchMask, generator: str) -> Target:
    """Targets of all patches in raster order: those of a training step that predicts them all.

    Args:
        model: The model whose targets are made.
        images: ``[B, C, H, W]``, as a data loader gives them.
        mask: Mask of the batch.
        generator: Name of the target generator, a submodule.
    """
    every = replace(mask, predict=mask.of_all.visible.unsqueeze(1))
    return step(model, images, every, [generator]).calls[generator][0].output


def adamw(
    model: MaskedImageModeling,
    lr: float,
    weight_decay: float,
    rules: Rules,
    betas: Sequence[float] = (0.9, 0.95),
    eps: float = 1e-8,
    clip_norm: float | None = None,
) -> OptimWrapper:
    """The optimiser of a trajectory; arguments as in a config's ``optim_wrapper``."""
    groups = parameter_groups(model, lr, weight_decay, rules)
    return OptimWrapper(torch.optim.AdamW(groups, betas=(betas[0], betas[1]), eps=eps, fused=True), clip_norm=clip_norm)


def images_as_they_are(channels: int) -> dict[str, Any]:
    """The config of a data preprocessor for recorded images, which are normalised."""
    return {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * channels, 'std': [1.0] * channels, 'bgr_to_rgb': False}


def check_settings(settings: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse a sidecar that contradicts the recorded weights.

    Args:
        settings: Settings of the sidecar, some of which may be missing.
        found: Settings of these names, read off the weights.

    Raises:
        InputError: With what the weights have.
    """
    if wrong := {key: value for key, value in found.items() if settings.get(key, value) != value}:
        raise InputError(f'The JSON sidecar says otherwise than the recorded weights, which have {wrong}.')


def recorded_model(config: dict[str, Any], weights: Mapping[str, Tensor]) -> MaskedImageModeling:
    """The model of a config, with recorded weights (in mmmim's names) and in training mode.

    Raises:
        InputError: Weights are missing, or have other shapes.
    """
    model = MODELS.build(config)
    load_state_dict(model, weights, 'the recorded run')
    return model.train()


def recorded_weights(fixture: Fixture, prefix: str) -> dict[str, Tensor]:
    """Recorded arrays under a prefix as fp32 tensors, without it."""
    return {key: torch.from_numpy(value).float() for key, value in fixture.group(prefix).items()}


def norm(*tensors: Tensor) -> float:
    """L2 norm over tensors, in fp64: that of millions of elements in fp32 is off by more than a tolerance."""
    return sum(tensor.detach().double().square().sum().item() for tensor in tensors) ** 0.5


def norms(names: Sequence[str], values: Mapping[str, Tensor], collect: Collect, missing: float) -> np.ndarray:
    """Norms of the tensors of a recording by its names, ``missing`` for what ``values`` lack."""
    found = [collect(name, values) for name in names]
    return np.array([missing if tensor is None else norm(tensor) for tensor in found])


def collected(
    fixture: Fixture,
    prefix: str,
    values: Mapping[str, Tensor],
    collect: Collect,
    of: Callable[[Tensor], Any] = lambda tensor: tensor,
) -> dict[str, Any]:
    """A quantity of every tensor that is recorded under a prefix, by the names of the recording.

    Args:
        fixture: The recording that has the names.
        prefix: First part of the names in the recording, e.g. ``'grad/'``.
        values: mmmim's tensors by name; a quantity that needs one that is not there is not computed.
        collect: Makes one tensor of the layout of them.
        of: Gives the quantity of a tensor; by default the tensor itself.
    """
    found = {key: collect(key, values) for key in fixture.group(prefix)}
    return {f'{prefix}{key}': of(tensor) for key, tensor in found.items() if tensor is not None}


def split_by_name(
    fixture: Fixture, arrays: Mapping[str, np.ndarray], names_of: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Arrays with a value per parameter, as a quantity per parameter.

    Args:
        fixture: The recording that the arrays are of.
        arrays: Recorded or computed ones.
        names_of: The settings that hold the names of parameters, by what such arrays' names end in.

    Raises:
        InputError: There are not as many values as names.
    """
    result: dict[str, Any] = {}
    for key, array in arrays.items():
        setting = next((names_of[end] for end in names_of if key == end or key.endswith(f'/{end}')), None)
        if setting is None:
            result[key] = array
            continue
        names = fixture.setting(setting)
        if array.shape != (len(names),):
            raise InputError(f'{key} has the shape {array.shape}, and {setting} has {len(names)} names.')
        result |= {f'{key}/{name}': value for name, value in zip(names, array, strict=True)}
    return result


def as_arrays(computed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Computed quantities as NumPy arrays."""
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in computed.items()
    }
