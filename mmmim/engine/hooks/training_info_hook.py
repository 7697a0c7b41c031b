"""How large a step is, and how fast."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook, LoggerHook

from mmmim.engine.ddp import bare_model
from mmmim.engine.micro_batch import choose_micro_batch
from mmmim.registry import HOOKS
from mmmim.utils.internals import accumulated_batches


@HOOKS.register_module()
class TrainingInfoHook(Hook):
    """Log the effective batch at the start and ``train/images_per_s``, over all processes, during training.

    A model that has a method ``describe_batch(per_gpu_batch, images) -> str`` adds its words to the first. Where
    ``model.micro_batch_size`` is 'auto', it is chosen before the first step
    (:func:`mmmim.engine.micro_batch.choose_micro_batch`).
    """

    # After IterTimerHook (50), before LoggerHook (60).
    priority = 55

    def before_train(self, runner: Any) -> None:
        """Log the batch."""
        per_gpu, world_size = runner.train_dataloader.batch_size, runner.world_size
        self._images = runner.cfg.get('global_batch_size') or per_gpu * world_size
        self._window = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 50)
        batches = accumulated_batches(runner.optim_wrapper)
        line = f'{world_size} process(es) (GPUs) x {per_gpu} images'
        line += ' (at most)' if per_gpu * world_size != self._images else ''
        line += f' x {batches} accumulated batches' if batches > 1 else ''
        line += f' = effective batch of {self._images * batches} images'
        model = bare_model(runner)
        if hasattr(model, 'describe_batch'):  # models of projects may tell, too
            line += f'; {model.describe_batch(per_gpu, self._images)}'
        runner.logger.info(line)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Choose the size of micro-batches, if that is left to the training."""
        if getattr(bare_model(runner), 'micro_batch_to_choose', False):
            runner.logger.info(choose_micro_batch(runner, data_batch))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Update the speed from the time of the last logging interval.

        Single iterations say little on a GPU, where the host runs ahead until it reads a value.
        """
        if 'train/time' in runner.message_hub.log_scalars:
            seconds = runner.message_hub.get_scalar('train/time').mean(self._window)
            runner.message_hub.update_scalar('train/images_per_s', self._images / max(float(seconds), 1e-9))
