"""Logged values without a host sync in every iteration, and the end of a training that learns nothing any more."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmmim.engine.nonfinite import capture
from mmmim.engine.skipped_steps import SkippedSteps
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.options import Count
from mmmim.utils.precision import widest_float

# mmengine keeps the last million values of every logged quantity and copies all of them to append one. Windows of the
# log processor reach back one logging interval or one epoch.
_MAX_HISTORY = 10_000
#: Iterations between two looks at lost steps where nothing is logged.
_INTERVAL = 50

#: Where the message hub, and with it a checkpoint, holds ``(lost steps in a row, those that looked for a loss scale)``.
SKIPPED = 'skipped_steps'
#: Where a checkpoint holds the last values of what is logged, by name, with which the next values are averaged.
HISTORY = 'log_history'
#: All that is kept of these, for health reports; of others, as many as a line of the log averages.
_WHOLE = ('train/grad_norm',)
#: What is about the machine and not about the training.
_MACHINE = ('train/time', 'train/data_time', 'train/images_per_s', 'train/memory')


def steps_are_lost(runner: Any) -> bool:
    """Whether the last step that is known of was lost: its weights are those of the last checkpoint, or spoilt."""
    return any(runner.message_hub.get_info(SKIPPED, (0, 0)))


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook, except that losses stay on their device until they are logged, and that a dead training ends.

    mmengine reads every loss of every iteration back to the host, which waits for the GPU each time. Here the values
    move to the message hub in one transfer in the iterations that ``LoggerHook`` prints, before validation, before a
    checkpoint and at the end of training; between those they are not in the message hub yet.

    Of several processes, logged values are means over all of their images, as the gradient is: one reduction of what is
    handed over, not one per iteration.

    **Lost steps.** Steps whose gradients or losses are not finite teach nothing, see
    :class:`mmmim.engine.skipped_steps.SkippedSteps`. If at least half of the steps of a logging interval are lost, a
    warning says so, once until an interval is better. After ``max_skipped`` in a row, or if that is all that a shorter
    training ever did, the training ends with an error, beside a file that
    ``tools/analysis_tools/replay_nonfinite.py`` explains. The row is counted across intervals and, since it is part of
    checkpoints, across restarts. Both are decided where values are handed over for logging, and at the end.

    Args:
        max_skipped: Lost steps in a row that end a training; a large number to train on whatever happens.
    """

    def __init__(self, max_skipped: Count = 100) -> None:
        super().__init__()
        self.max_skipped = max_skipped

    def before_train(self, runner: Any) -> None:
        """Find out when values are logged, and how many steps were lost before a checkpoint that is resumed."""
        super().before_train(runner)
        # Without a log lost steps are looked for all the same.
        self._intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)] or [_INTERVAL]
        # Per iteration its values on a device, by name, its plain numbers, and the images of this process.
        self._buffer: list[tuple[list[str], Tensor | None, dict[str, Any], int]] = []
        before = _counts(runner.message_hub.get_info(SKIPPED) if runner.iter else None)
        self._skipped = SkippedSteps(*before)
        self._warned = False
        self._failed: str | None = None
        for key, values in _histories(runner.message_hub.get_info(HISTORY) if runner.iter else None).items():
            runner.message_hub.log_scalars.setdefault(key, HistoryBuffer(values, [1] * len(values)))
        runner.message_hub.update_info(SKIPPED, before)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Buffer the outputs; hand all of them over where ``LoggerHook`` is about to print.

        Raises:
            InputError: ``max_skipped`` steps in a row were lost.
        """
        tensors = {key: value for key, value in (outputs or {}).items() if isinstance(value, Tensor)}
        numbers = {key: value for key, value in (outputs or {}).items() if key not in tensors}
        values = None
        if tensors:
            # A fresh tensor, since models may change an output in place in the next step.
            device = next(iter(tensors.values())).device
            wide = widest_float(device)
            values = torch.stack([value.detach().reshape(()).to(device, wide) for value in tensors.values()])
        if outputs:
            self._buffer.append((list(tensors), values, numbers, _images(data_batch)))
        logged = any(self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals)
        last = self.is_last_train_iter(runner)
        if logged or last or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.flush(runner)
        if logged or last:
            self._judge(runner, data_batch, outputs or {}, last)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the last logged values, so that a resumed training logs what one that was not interrupted does."""
        window = getattr(runner.log_processor, 'window_size', 1)
        values = {
            key: history.data[0][-(_MAX_HISTORY if key in _WHOLE else window) :].tolist()
            for key, history in runner.message_hub.log_scalars.items()
            if key.startswith('train/') and key not in _MACHINE
        }
        checkpoint['message_hub']['runtime_info'][HISTORY] = values
        checkpoint['message_hub']['resumed_keys'][HISTORY] = True

    def before_val(self, runner: Any) -> None:
        """Hand the buffered values over."""
        self.flush(runner)
        super().before_val(runner)

    def after_train(self, runner: Any) -> None:
        """Hand the buffered values over.

        Raises:
            InputError: The training ended, and its last ``max_skipped`` steps, or all, were lost.
        """
        self.flush(runner)
        super().after_train(runner)
        if self._failed is not None:
            raise InputError(self._failed)

    def flush(self, runner: Any) -> None:
        """Hand the buffered values over: one transfer from the device. All processes call it."""
        buffer, self._buffer = getattr(self, '_buffer', []), []
        shared = set(getattr(runner.optim_wrapper, 'step_info', ())) if buffer else set()
        read = iter(_read(buffer, shared))
        hub = runner.message_hub
        for keys, _, numbers, _ in buffer:
            values = {key: next(read) for key in keys} | numbers
            for key, value in values.items():
                hub.update_scalar(f'train/{key}', value)
            self._skipped.add(values)
        if buffer:
            hub.update_info(SKIPPED, (self._skipped.in_row, self._skipped.warm_up))
        for key, history in hub.log_scalars.items():
            if key.startswith('train/'):
                history.max_length = _MAX_HISTORY

    def _judge(self, runner: Any, data_batch: Any, outputs: dict[str, Any], last: bool) -> None:
        """Warn of lost steps, or end the training: all processes alike, as they have the same values."""
        skipped, steps = self._skipped, runner.iter + 1
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled():
            skipped.follow_scale(scaler.get_scale())
        warning = skipped.interval()
        if skipped.in_row >= self.max_skipped or (last and skipped.all_in_row >= min(steps, self.max_skipped)):
            path = capture(runner, data_batch, outputs)
            again = f'python tools/analysis_tools/replay_nonfinite.py {path}'
            where = '' if path is None else f' What it takes to see this step again is in {path}: {again}'
            message = (
                f'Nothing is learned any more: the last {skipped.all_in_row} steps, up to iteration {steps}, were '
                'lost, because a loss or a gradient was not finite. '
                f'{_remedy(skipped)} Checkpoints from before are kept.{where}'
            )
            if not last:
                raise InputError(message)
            # What else the last iteration does, such as its checkpoint, is done before.
            self._failed = message
        elif warning is not None and not self._warned:
            runner.logger.warning(
                f'{warning} The training ends at {self.max_skipped} in a row '
                '(default_hooks.runtime_info.max_skipped). See docs/en/health.md.'
            )
        self._warned = warning is not None


def _counts(stored: Any) -> tuple[int, int]:
    """The row of lost steps in a checkpoint; none where it holds something else."""
    if isinstance(stored, list | tuple) and len(stored) == 2 and all(type(n) is int and n >= 0 for n in stored):
        return stored[0], stored[1]
    return 0, 0


def _histories(stored: Any) -> dict[str, list[float]]:
    """Logged values in a checkpoint, by name; what is none is left out."""
    found = stored.items() if isinstance(stored, dict) else ()
    return {
        key: values[-_MAX_HISTORY:]
        for key, values in found
        if isinstance(key, str) and isinstance(values, list) and all(type(n) in (int, float) for n in values)
    }


def _remedy(skipped: SkippedSteps) -> str:
    if not skipped.in_row:
        return (
            'The training was too short to find a loss scale: start lower (optim_wrapper.loss_scale), or use bfloat16.'
        )
    return (
        'Resume an earlier checkpoint (--resume PATH) with a lower learning rate, optim_wrapper.clip_norm or in fp32 '
        '(optim_wrapper.dtype=None), and look at the images.'
    )


def _images(data_batch: Any) -> int:
    """Images of a batch; 1 where that cannot be told."""
    inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
    return len(inputs) if isinstance(inputs, Tensor | list | tuple) else 1


def _read(buffer: list[tuple[list[str], Tensor | None, dict[str, Any], int]], shared: set[str]) -> list[float]:
    """All values on the device, in one transfer; means over the images of all processes.

    Args:
        buffer: Values that the hook has collected since it last read them.
        shared: Names of values that all processes have alike.
    """
    tensors = [values for _, values, _, _ in buffer if values is not None]
    if not tensors:
        return []
    flat = torch.cat(tensors)
    if get_world_size() > 1:
        keys = [(key in shared, images) for names, _, _, images in buffer for key in names]
        same, weight = torch.tensor(keys, device=flat.device, dtype=flat.dtype).unbind(1)
        sums = torch.stack([flat * weight, weight])
        all_reduce(sums)
        flat = torch.where(same.bool(), flat, sums[0] / sums[1])
    return flat.tolist()
