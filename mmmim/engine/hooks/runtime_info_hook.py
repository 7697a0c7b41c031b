"""Logged values without a host sync in every iteration."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook

from mmmim.registry import HOOKS

# mmengine keeps the last million values of every logged quantity and copies all of them to append one. Windows of the
# log processor reach back one logging interval or one epoch.
_MAX_HISTORY = 10_000


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook, except that losses stay on their device until they are logged.

    mmengine reads every loss of every iteration back to the host, which waits for the GPU each time. Here the values
    move to the message hub in one transfer in the iterations that ``LoggerHook`` prints, before validation and at the
    end of training; between those they are not in the message hub yet.
    """

    def before_train(self, runner: Any) -> None:
        """Find out when values are logged."""
        super().before_train(runner)
        self._intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        # Per iteration the names of its values and the values: a vector on a device, or plain numbers.
        self._buffer: list[tuple[list[str], torch.Tensor | list[Any]]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Buffer the outputs; hand all of them over where ``LoggerHook`` is about to print."""
        tensors = {key: value for key, value in (outputs or {}).items() if isinstance(value, torch.Tensor)}
        numbers = {key: value for key, value in (outputs or {}).items() if key not in tensors}
        if tensors:
            # A fresh tensor, since models may change an output in place in the next step.
            device = next(iter(tensors.values())).device
            values = [value.detach().reshape(()).to(device, torch.float64) for value in tensors.values()]
            self._buffer.append((list(tensors), torch.stack(values)))
        if numbers:
            self._buffer.append((list(numbers), list(numbers.values())))
        if (
            any(self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or self.is_last_train_iter(runner)
        ):
            self.flush(runner)

    def before_val(self, runner: Any) -> None:
        """Hand the buffered values over."""
        self.flush(runner)
        super().before_val(runner)

    def after_train(self, runner: Any) -> None:
        """Hand the buffered values over."""
        self.flush(runner)
        super().after_train(runner)

    def flush(self, runner: Any) -> None:
        """Hand the buffered values over: one transfer from the device."""
        buffer, self._buffer = getattr(self, '_buffer', []), []
        on_device = [values for _, values in buffer if isinstance(values, torch.Tensor)]
        read = iter(torch.cat(on_device).tolist() if on_device else [])
        hub = runner.message_hub
        for keys, values in buffer:
            for i, key in enumerate(keys):
                hub.update_scalar(f'train/{key}', next(read) if isinstance(values, torch.Tensor) else values[i])
        for key, history in hub.log_scalars.items():
            if key.startswith('train/'):
                history.max_length = _MAX_HISTORY
