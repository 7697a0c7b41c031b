"""Training on several processes, each with the whole model."""

import datetime
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch.distributed as dist
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import Tensor, nn

from mmmim.models import MaskedImageModeling
from mmmim.models.algorithms.masked_image_modeling import DataParallel
from mmmim.registry import MODEL_WRAPPERS
from mmmim.utils import InputError

T = TypeVar('T')


def bare_model(runner: Any) -> Any:
    """The model of a runner, without its data-parallel wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def is_sharded(runner: Any) -> bool:
    """Whether parameters are divided among the processes, so that every forward pass is a collective operation."""
    return hasattr(runner.model, 'gathered')


def gathered(runner: Any) -> AbstractContextManager[None]:
    """For calling parts of the model without gradients, by the processes that :func:`takes_part` names."""
    return runner.model.gathered() if is_sharded(runner) else nullcontext()


def takes_part(runner: Any) -> bool:
    """Whether this process takes part in forward passes whose results only the first process uses."""
    return is_main_process() or is_sharded(runner)


def main_process_decides(function: Callable[[], T]) -> T:
    """What a function returns in the first process; all processes call this, and an :class:`InputError` is all theirs.

    Args:
        function: Called without arguments, by the first process only. What it returns is pickled for the others.
    """
    result: list[Any] = [None, None]
    if is_main_process():
        try:
            result[0] = function()
        except InputError as error:
            result[1] = str(error)
    broadcast_object_list(result)
    if result[1] is not None:
        raise InputError(result[1])
    return result[0]


def init_process_group_on_cpu(timeout: float | None = None) -> None:
    """Join the processes of torchrun with gloo; mmengine's function sets a GPU before it looks for one.

    Args:
        timeout: Seconds that a process waits for the others; None: torch's default.
    """
    if not dist.is_initialized():
        dist.init_process_group('gloo', timeout=None if timeout is None else datetime.timedelta(seconds=timeout))


class StepsOfModel:
    """A data-parallel wrapper in which a :class:`MaskedImageModeling` takes its own, micro-batched step."""

    module: nn.Module

    def train_step(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        """One optimiser step."""
        if isinstance(self.module, MaskedImageModeling):
            return self.module.train_step(data, optim_wrapper, wrapper=cast('DataParallel', self))
        return self._step_of_others(data, optim_wrapper)

    def _step_of_others(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        raise NotImplementedError


@MODEL_WRAPPERS.register_module()
class DistributedDataParallel(StepsOfModel, MMDistributedDataParallel):
    """mmengine's data-parallel wrapper, on CPU too, with the micro-batched step of :class:`MaskedImageModeling`.

    Gradients are synchronised once per step, in the last micro-batch.

    Args:
        module: The model, on its device.
        device_ids: The device of this rank; ignored for a model on the CPU.
        broadcast_buffers: Whether rank 0's buffers are sent in every forward pass.
        find_unused_parameters: Whether the model leaves parameters without gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list[int] | None = None,
        broadcast_buffers: bool = False,
        find_unused_parameters: bool = False,
    ) -> None:
        on_cpu = next(module.parameters()).device.type == 'cpu'
        with warnings.catch_warnings():
            # torch has begun to rename the option; its new name is unknown to the versions before.
            warnings.filterwarnings('ignore', message='.*broadcast_buffers', category=FutureWarning)
            super().__init__(
                module=module,
                device_ids=None if on_cpu else device_ids,
                broadcast_buffers=broadcast_buffers,
                find_unused_parameters=find_unused_parameters,
            )

    def _step_of_others(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        return MMDistributedDataParallel.train_step(self, data, optim_wrapper)
