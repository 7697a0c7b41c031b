"""A step whose losses or gradients are not finite: what it takes to see it again, and where they come from."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.runner import weights_to_cpu
from torch import Tensor, nn

import mmmim
from mmmim.checkpoints import save_checkpoint_file
from mmmim.config.differences import training_config
from mmmim.engine.ddp import bare_model, is_sharded
from mmmim.engine.stored_batch import image_paths, images_of, pack
from mmmim.utils import InputError
from mmmim.utils.nested import children
from mmmim.utils.plain import to_plain
from mmmim.utils.seeds import seed_step

#: Of the layout of these files.
VERSION = 1


@dataclass
class StepReport:
    """What a step gave.

    Attributes:
        losses: Losses by name, not finite ones included.
        gradients: Parameters whose gradients are not finite.
        with_gradient: Number of parameters that have one.
        first: Name and class of the first module, in the order in which forward passes end, whose output is not finite;
            None where all are, or nobody looked.
    """

    losses: dict[str, float] = field(default_factory=dict)
    gradients: list[str] = field(default_factory=list)
    with_gradient: int = 0
    first: str | None = None

    @property
    def bad_losses(self) -> list[str]:
        """Names of losses that are not finite."""
        return [name for name, value in self.losses.items() if not math.isfinite(value)]


class GradientRecorder:
    """Stands in the place of an optimiser wrapper: looks at gradients instead of taking a step.

    Args:
        model: The model whose parameters are looked at.
        dtype: Type that autocast computes in; None for fp32.
        loss_scale: Factor of the losses before the backward pass.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None, loss_scale: float) -> None:
        self.model, self.dtype, self.loss_scale = model, dtype, loss_scale
        self.report = StepReport()
        self.step_info: dict[str, Tensor] = {}

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast as in training."""
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype is not None):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate the scaled loss."""
        (loss * self.loss_scale).backward(**kwargs)

    def step(self, **kwargs: Any) -> None:
        """Look at the gradients."""
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        self.report.with_gradient = len(gradients)
        self.report.gradients = [name for name, value in gradients.items() if not value.isfinite().all()]

    def zero_grad(self, **kwargs: Any) -> None:
        """Drop the gradients."""
        self.model.zero_grad(set_to_none=True)

    def update_params(self, loss: Tensor, **kwargs: Any) -> None:
        """As a wrapper of mmengine's does a step."""
        self.backward(loss)
        self.step()
        self.zero_grad()


def run_step(
    model: nn.Module,
    batch: Any,
    seeds: tuple[int, int, int],
    dtype: torch.dtype | None = None,
    loss_scale: float = 1.0,
    watch: bool = False,
) -> StepReport:
    """Run a training step without changing a weight.

    Args:
        model: A model with a ``train_step`` as mmengine's, without a data-parallel wrapper.
        batch: The batch, as the data loader gives it.
        seeds: Seed of the run, process and iteration, as in :func:`mmmim.utils.seeds.seed_step`.
        dtype: Type that autocast computes in; None for fp32.
        loss_scale: Factor of the losses before the backward pass, for float16.
        watch: Look at the output of every module, which waits for the device each time.

    Returns:
        What came out.
    """
    recorder = GradientRecorder(model, dtype, loss_scale)
    before = model.training
    recorder.zero_grad()
    seed_step(*seeds)
    with ExitStack() as stack:
        stack.callback(model.train, before)
        stack.callback(recorder.zero_grad)
        if watch:
            stack.enter_context(_watched(model, recorder.report))
        model.train()
        outputs: Mapping[str, Any] = model.train_step(batch, recorder)
        recorder.report.losses = _numbers(outputs)
    return recorder.report


@contextmanager
def _watched(model: nn.Module, report: StepReport) -> Iterator[None]:
    """Keep the name of the first module whose output is not finite."""

    def look(name: str) -> Any:
        @torch.no_grad()  # or checkpointed parts would keep what the hook does, and miss it when they run again
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if report.first is None and not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
                report.first = f'{name} ({type(module).__name__})'

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(look(name)).remove)
        yield


def _tensors(value: Any) -> list[Tensor]:
    """Floating tensors in nested containers and dataclasses."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if is_dataclass(value):
        return [tensor for f in fields(value) for tensor in _tensors(getattr(value, f.name))]
    return [tensor for _, item in children(value) for tensor in _tensors(item)]


def _numbers(outputs: Mapping[str, Any]) -> dict[str, float]:
    """Scalars that a step returned."""
    return {k: float(v) for k, v in outputs.items() if isinstance(v, int | float) or (_is_scalar(v))}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def capture(runner: Any, batch: Any, outputs: Mapping[str, Any]) -> str | None:
    """Write what it takes to see the last step again into the work folder; all processes call it.

    Of several processes those write whose images are not finite, or else losses or gradients: each a file of its own.

    Args:
        runner: The runner after the step; weights are those before it, if the step was skipped.
        batch: The batch of this process, as its data loader gave it.
        outputs: What the step returned, by name.

    Returns:
        The file, the first of several; None if none could be written.
    """
    algorithm = bare_model(runner)
    state = _state_dict(runner)
    data = _describe(runner, batch, outputs)
    report = StepReport(losses=_numbers(outputs))
    # What is divided among processes is not run by parts of it.
    if not is_sharded(runner) and hasattr(algorithm, 'train_step'):
        dtype = getattr(torch, data['dtype']) if data['dtype'] else None
        seeds = (data['seed'], data['rank'], data['iteration'] - 1)
        try:
            report = run_step(algorithm, batch, seeds, dtype, data['loss_scale'])
        except RuntimeError as error:  # such as memory that is short; there is still the batch to keep
            runner.logger.warning(f'The step could not be run again to name gradients: {str(error).splitlines()[0]}')
    images = [i for i, image in enumerate(images_of(batch)) if not image.float().isfinite().all()]
    weights = [key for key, value in state.items() if isinstance(value, Tensor) and not value.isfinite().all()]
    logged = _numbers(outputs)
    losses = sorted({*report.bad_losses, *(k for k, v in logged.items() if 'loss' in k and not math.isfinite(v))})
    data['not_finite'] = {'images': images, 'losses': losses, 'gradients': report.gradients, 'weights': weights}
    # What is not finite on one process spreads to others, as where prototypes are balanced over all images: the cause
    # is where images are not finite, or else losses, or else gradients.
    evidence = 3 if images else 2 if losses else 1 if report.gradients else 0
    most = max(_gathered(evidence))
    path = None
    if (evidence == most and most) or (not most and get_rank() == 0):
        path = _write(runner, data, state)
    return next((each for each in _gathered(path) if each is not None), None)


def _gathered(value: Any) -> list[Any]:
    return all_gather_object(value) if get_world_size() > 1 else [value]


def _state_dict(runner: Any) -> dict[str, Any]:
    """Weights on the CPU; of a model that is divided among processes only the first process has them."""
    strategy = getattr(runner, 'strategy', None)
    if is_sharded(runner) and strategy is not None:
        state = strategy.model_state_dict()
        return state if is_main_process() else {}
    return dict(weights_to_cpu(bare_model(runner).state_dict()))


def _describe(runner: Any, batch: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """All of a capture but the weights and what is not finite."""
    wrapper = runner.optim_wrapper
    dtype = getattr(wrapper, 'dtype', getattr(wrapper, 'cast_dtype', None))
    images = images_of(batch)
    scheduled = {hook.name: getattr(hook._part, hook._attribute) for hook in runner.hooks if hasattr(hook, '_part')}
    return {
        'nonfinite': VERSION,
        'mmmim_version': mmmim.__version__,
        'iteration': runner.iter + 1,
        'seed': runner.seed,
        'rank': get_rank(),
        'world_size': get_world_size(),
        'seeded': any(type(hook).__name__ == 'StepSeedHook' for hook in runner.hooks),
        # As in checkpoints, so that what reads and checks the models of those does it here.
        'mmmim': {'version': 1, 'model': to_plain(runner.model_cfg()), 'config': training_config(runner.cfg)},
        'scheduled': to_plain(scheduled),
        'dtype': None if dtype is None else str(dtype).removeprefix('torch.'),
        'loss_scale': _numbers(outputs).get('loss_scale', 1.0),
        'logged': _numbers(outputs),
        'images': image_paths(batch, len(images)),
        'batch': pack(batch),
    }


def _write(runner: Any, data: dict[str, Any], state: dict[str, Any]) -> str | None:
    # No name of a checkpoint: `--resume` looks for iter_*.pth.
    of_rank = f'_rank_{data["rank"]}' if data['world_size'] > 1 else ''
    path = os.path.join(runner.work_dir, f'nonfinite_iter_{data["iteration"]}{of_rank}.pth')
    try:
        save_checkpoint_file({**data, 'state_dict': state}, path)
    except InputError as error:  # the message about the training is the more important one
        runner.logger.warning(str(error))
        return None
    return path
