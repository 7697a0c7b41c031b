"""Data parallelism."""

import warnings
from typing import Any

from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import Tensor, nn

from mmmim.models.algorithms import MaskedImageModeling, train_step
from mmmim.registry import MODEL_WRAPPERS


def bare_model(runner: Any) -> Any:
    """The model of a runner, without its data-parallel wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@MODEL_WRAPPERS.register_module()
class DistributedDataParallel(MMDistributedDataParallel):
    """mmengine's data-parallel wrapper, on CPU too, with the micro-batched step of :class:`MaskedImageModeling`.

    Gradients are synchronised once per step, in the last micro-batch.

    Args:
        module: The model, on its device.
        device_ids: The device of this rank; ignored for a model on the CPU.
        broadcast_buffers: Whether rank 0's buffers are sent in every forward pass.
        find_unused_parameters: For models that leave parameters without gradients.
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

    def train_step(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        """One optimiser step."""
        if isinstance(self.module, MaskedImageModeling):
            return train_step(self, self.module, data, optim_wrapper)
        return super().train_step(data, optim_wrapper)
