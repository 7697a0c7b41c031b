"""Moves a number of a model while it trains."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmim.engine.ddp import bare_model
from mmmim.engine.schedules import build_schedule
from mmmim.registry import HOOKS
from mmmim.utils import InputError


@HOOKS.register_module()
class ScheduledValueHook(Hook):
    """Sets an attribute of a part of the model, a number, by a schedule, before every step.

    Args:
        name: Part and attribute, e.g. ``'branches.latent.head.heads.similarity.target'``.
        schedule: Config of a schedule, e.g. ``dict(type='mmmim.cosine', start=0.75, final=0.25)``.
    """

    def __init__(self, name: str, schedule: dict) -> None:
        self.name, self.schedule = name, build_schedule(schedule)

    def before_train(self, runner: Runner) -> None:
        """Find the part.

        Raises:
            InputError: The model has no such part, or the part no such number.
        """
        part, _, self._attribute = self.name.rpartition('.')
        try:
            self._part = bare_model(runner).get_submodule(part)
        except AttributeError as error:
            raise InputError(f'ScheduledValueHook: the model has no part {part!r} ({error}).') from None
        if not isinstance(getattr(self._part, self._attribute, None), (int, float)):
            raise InputError(f'ScheduledValueHook: {part!r} has no number {self._attribute!r}.')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | Sequence | None = None) -> None:
        """Set the value of this step and log it."""
        value: Any = self.schedule(runner.iter, runner.max_iters)
        setattr(self._part, self._attribute, value)
        runner.message_hub.update_scalar(f'train/{self._attribute}', value)
