"""A training that is asked to stop finishes its step, saves a checkpoint, and ends: on all processes at one step."""

from __future__ import annotations

import copy
import datetime
import os
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import CheckpointHook, Hook

from mmmim.utils import InputError
from mmmim.utils.internals import save_step
from mmmim.utils.signals import Stopped, defer, name_of, requested

# A process whose peers take longer than this is not what notices it: the collectives of the step are.
_TIMEOUT = datetime.timedelta(days=1)


class Agreement:
    """Which signal has asked any of the processes to stop, the same answer on all of them at the same step.

    Each :meth:`poll` starts the reduction of one number over the processes, on the CPU and in the background, and
    returns the result of the one that the poll before has started: nothing waits for a GPU, nor for the slowest
    process of this step. All processes poll equally often. A single process needs no reduction.

    Raises:
        InputError: The processes cannot reach each other from their CPUs.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._work: Any = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            try:
                self._group = dist.new_group(backend='gloo', timeout=_TIMEOUT)
            except RuntimeError as error:
                raise InputError(
                    f'The processes could not connect to each other with gloo ({str(error).splitlines()[0]}): set '
                    'GLOO_SOCKET_IFNAME to the network interface between the machines.'
                ) from error

    def poll(self) -> int:
        """The number of the signal, as of the poll before this one; 0: none. Of several signals the largest."""
        if self._group is None:
            return requested()
        agreed = self._result()
        self._signum = torch.tensor([requested()], dtype=torch.int32)
        self._work = dist.all_reduce(self._signum, dist.ReduceOp.MAX, self._group, async_op=True)
        return agreed

    def smallest(self, number: int) -> int:
        """The smallest of the numbers of the processes."""
        if self._group is None:
            return number
        smallest = torch.tensor([number])
        dist.all_reduce(smallest, dist.ReduceOp.MIN, self._group)
        return int(smallest)

    def meet(self) -> None:
        """Wait for all processes."""
        self._result()
        if self._group is not None:
            dist.barrier(self._group)

    def _result(self) -> int:
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._signum)


class PreemptionHook(Hook):
    """Ends a training that was asked to stop by a signal (:mod:`mmmim.utils.signals`); of every ``mmmim.Runner``.

    The step that runs is finished, or a validation left, and a checkpoint saved by the checkpoint hook of the config,
    unless there is one of this step already. :class:`~mmmim.utils.signals.Stopped` is then raised on all processes.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._agreement: Agreement | None = None
        self._polls_of_validation = 0

    def before_train(self, runner: Any) -> None:
        """Connect the processes; from now on signals wait for the end of a step."""
        self._agreement = Agreement()
        defer()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop if asked to."""
        self._stop_if_asked(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Any) -> None:
        """Processes may validate different numbers of batches, and have to poll equally often."""
        if self._agreement is not None:
            loader = runner.val_loop.dataloader
            self._polls_of_validation = self._agreement.smallest(len(loader) if hasattr(loader, '__len__') else 0)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Leave the validation if asked to."""
        if batch_idx < self._polls_of_validation:
            self._stop_if_asked(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Nothing is left to stop."""
        if self._agreement is not None:
            self._agreement.meet()
        self._agreement, self._polls_of_validation = None, 0

    def _stop_if_asked(self, runner: Any, step: int) -> None:
        if self._agreement is None or not (signum := self._agreement.poll()):
            return
        saved = save_now(runner, step)
        # Launchers end the processes that are left when the first has ended: not before the file is written.
        self._agreement.meet()
        runner.logger.warning(
            f'Stopped by {name_of(signum)} after iteration {step}: '
            + (f'saved {saved}; the same command with --resume goes on from there.' if saved else 'nothing was saved.')
        )
        runner.visualizer.close()
        raise Stopped(signum, together=True)


def save_now(runner: Any, step: int) -> str | None:
    """Save a checkpoint as the checkpoint hook would, unless it has just done so; all processes call it.

    Args:
        runner: The runner of the training.
        step: Iterations that are done.

    Returns:
        Its path; None where the config has switched checkpoints off.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is None:
        return None
    if hook.by_epoch:
        # Within an epoch: a file beside those of whole epochs, which are counted and deleted by their own numbers.
        hook = copy.copy(hook)
        hook.by_epoch, hook.filename_tmpl, hook.max_keep_ckpts = False, 'iter_{}.pth', -1
    path = os.path.join(hook.out_dir, hook.filename_tmpl.format(step))
    if hook.last_ckpt != path:
        save_step(hook, runner, step, {'epoch': runner.epoch, 'iter': step})
    return path
