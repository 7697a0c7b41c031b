"""Moves the teacher after every optimiser step."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmim.engine.ddp import bare_model
from mmmim.engine.schedules import build_schedule
from mmmim.models import MaskedImageModeling
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.options import Share


@HOOKS.register_module()
class TargetEMAHook(Hook):
    """``teacher = m * teacher + (1 - m) * student`` with a scheduled momentum m.

    A step that was skipped because of non-finite gradients leaves the teacher as it is; the decision stays on the
    device.

    Args:
        momentum: A number, or the config of a schedule, e.g.
            ``dict(type='mmmim.truncated_cosine', start=1.0, base=0.999, final=1.0, warmup_ratio=0.1)``.
    """

    # Before the probes and the checkpoint of the same iteration, which see the moved teacher.
    priority = 'HIGH'

    def __init__(self, momentum: dict | Share) -> None:
        self.schedule = build_schedule(momentum)

    def before_train(self, runner: Runner) -> None:
        """Refuse a model without a teacher."""
        model = bare_model(runner)
        if not isinstance(model, MaskedImageModeling) or model.teacher is None:
            raise InputError('TargetEMAHook moves a teacher and the model has none: set model.teacher=[...].')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | Sequence | None = None
    ) -> None:
        """Move the teacher and log the momentum."""
        model = bare_model(runner)
        momentum = self.schedule(runner.iter, runner.max_iters)
        model.teacher.update(model, momentum, getattr(runner.optim_wrapper, 'skipped', None))
        runner.message_hub.update_scalar('train/momentum', momentum)
