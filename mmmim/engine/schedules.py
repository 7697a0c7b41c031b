"""Schedules of learning rates, weight decay and EMA momenta: pure functions of the step."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.optim import _ParamScheduler

from mmmim.registry import PARAM_SCHEDULERS, SCHEDULES
from mmmim.utils import InputError
from mmmim.utils.options import (
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    ShareBelowOne,
    check_options,
    check_value,
)


@SCHEDULES.register_module()
def constant(step: int, total: int, value: Number) -> float:
    """The same value at every step."""
    return value


@SCHEDULES.register_module()
def linear(step: int, total: int, start: Number, final: Number) -> float:
    """From ``start`` at step 0 to ``final`` at step ``total`` (which is one past the last)."""
    return start + (final - start) * step / total


@SCHEDULES.register_module()
def cosine(step: int, total: int, start: Number, final: Number) -> float:
    """Half a cosine from ``start`` at step 0 towards ``final`` at step ``total`` (which is one past the last)."""
    return final + 0.5 * (start - final) * (1 + math.cos(math.pi * step / total))


@SCHEDULES.register_module()
def truncated_cosine(
    step: int,
    total: int,
    start: Number = 0.0,
    base: Number = 1.0,
    final: Number = 0.0,
    warmup_ratio: ShareBelowOne = 0.1,
    truncation: Share = 0.8,
) -> float:
    """Linear warm-up, then a cosine that stops before it is flat (CAPI, arXiv 2502.08769).

    The warm-up takes ``W = int(total * warmup_ratio)`` steps, ``start`` at step 0 and ``base`` at step W - 1, both
    included. The ``T = total - W`` steps after it follow the first ``truncation`` of a half-cosine from ``base``
    towards ``final``, so ``base`` occurs twice.

    Args:
        step: Number of the step, in [0, total).
        total: Number of steps.
        start: Value at step 0.
        base: Value after the warm-up.
        final: Value that the cosine heads for.
        warmup_ratio: Share of the steps that warm up.
        truncation: Share of the half-period that is run through; 1 for an ordinary cosine.

    Returns:
        The value at ``step``.
    """
    warmup = int(total * warmup_ratio)
    if step < warmup:
        return start + (base - start) * step / max(warmup - 1, 1)
    progress = truncation * (step - warmup) / (total - warmup)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))


@SCHEDULES.register_module()
def warmup_cosine(
    step: int,
    total: int,
    start: Number = 0.0,
    base: Number = 1.0,
    final: Number = 0.0,
    warmup_ratio: ShareBelowOne = 0.05,
) -> float:
    """Linear warm-up, then half a cosine.

    The warm-up takes ``W = total * warmup_ratio`` steps, with ``start`` at step 0 and ``base`` at step W; the cosine
    runs from there towards ``final`` at step ``total`` (which is one past the last).

    Args:
        step: Number of the step, in [0, total).
        total: Number of steps.
        start: Value at step 0.
        base: Value after the warm-up.
        final: Value that the cosine heads for.
        warmup_ratio: Share of the steps that warm up.

    Returns:
        The value at ``step``.
    """
    warmup = total * warmup_ratio
    if step < warmup:
        return start + (base - start) * step / warmup
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@SCHEDULES.register_module()
def closed_cosine(
    step: int,
    total: int,
    start: Number = 0.0,
    base: Number = 1.0,
    final: Number = 0.0,
    warmup_ratio: ShareBelowOne = 0.1,
) -> float:
    """Linear warm-up, then half a cosine, both with both of their ends (probes of CAPI, arXiv 2502.08769).

    The warm-up takes ``W = round(total * warmup_ratio)`` steps, ``start`` at step 0 and ``base`` at step W - 1; the
    cosine goes from ``base`` at step W to ``final`` at the last step, so ``base`` occurs twice.

    Args:
        step: Number of the step, in [0, total).
        total: Number of steps.
        start: Value at step 0.
        base: Value after the warm-up.
        final: Value at the last step.
        warmup_ratio: Share of the steps that warm up.

    Returns:
        The value at ``step``.
    """
    warmup = round(total * warmup_ratio)
    if step < warmup:
        return start + (base - start) * step / max(warmup - 1, 1)
    progress = (step - warmup) / max(total - warmup - 1, 1)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * progress))


@SCHEDULES.register_module()
def multi_step(
    step: int,
    total: int,
    milestones: Sequence[ShareBelowOne],
    start: Number = 0.0,
    base: Number = 1.0,
    factor: Positive = 0.1,
    warmup_ratio: ShareBelowOne = 0.0,
) -> float:
    """Linear warm-up, then constant, times ``factor`` from each milestone on (SimMIM, arXiv 2111.09886).

    The warm-up takes ``W = total * warmup_ratio`` steps, with ``start`` at step 0 and ``base`` at step W. The first
    step of milestone m is ``ceil(total * m)``.

    Args:
        step: Number of the step, in [0, total).
        total: Number of steps.
        milestones: Shares of the steps that pass before each change, e.g. ``[700 / 800]``.
        start: Value at step 0.
        base: Value after the warm-up.
        factor: What the value is multiplied by at each milestone.
        warmup_ratio: Share of the steps that warm up.

    Returns:
        The value at ``step``.
    """
    warmup = total * warmup_ratio
    if step < warmup:
        return start + (base - start) * step / warmup
    return base * factor ** sum(step >= total * milestone for milestone in milestones)


@SCHEDULES.register_module()
def epochwise_min_cosine(step: int, total: int, epochs: Count, warmup_epochs: NonNegative) -> float:
    """The lower one of a linear warm-up and half a cosine, constant within an epoch (PiLaMIM, Lee et al., 2025).

    ``min((e + 1) / (W + 1e-8), (cos(pi e / E) + 1) / 2)`` in epoch e = 0 .. E - 1. The cosine starts in epoch 0 and not
    after the warm-up, so that the peak is a little below 1.

    Args:
        step: Number of the step, in [0, total).
        total: Number of steps.
        epochs: E, of ``total / E`` steps each.
        warmup_epochs: Number of epochs of the warm-up, W.

    Returns:
        The value at ``step``.
    """
    epoch = step * epochs // total
    return min((epoch + 1) / (warmup_epochs + 1e-8), 0.5 * (math.cos(math.pi * epoch / epochs) + 1))


def build_schedule(cfg: Mapping[str, Any] | float) -> Callable[[int, int], float]:
    """A schedule ``(step, total) -> value`` from ``dict(type='mmmim.truncated_cosine', ...)``.

    Every schedule takes ``first``, the step that it starts at instead of 0. With ``first=1`` it is at step ``total`` in
    the last of ``total`` iterations, as in recipes that advance their schedules before they use them (I-JEPA).

    Args:
        cfg: Type and options of the schedule; a number is the same value at every step.

    Raises:
        InputError: No schedule has this name, or it has other options.
    """
    if not isinstance(cfg, Mapping):
        check_value('A schedule', cfg, Number | dict)
        return lambda step, total: constant(step, total, cfg)
    options = dict(cfg)
    if 'type' not in options:
        raise InputError(f'A schedule has no type: it is a dict of {", ".join(map(str, options)) or "nothing"}.')
    name, first = options.pop('type'), options.pop('first', 0)
    check_value(f'{name}.first', first, Natural)
    function = SCHEDULES.get(name)
    if function is not None:
        check_options(function, options, name, given=('step', 'total'))
    else:
        known = ', '.join(f'mmmim.{key}' for key in sorted(SCHEDULES.module_dict))
        raise InputError(f'There is no schedule {name!r}: use one of {known}, or register yours in SCHEDULES.')
    return lambda step, total: function(step + first, total, **options)


def refuse_short(error: Exception) -> InputError:
    """The error of schedulers that would end before they begin, as one after a warm-up longer than the training."""
    return InputError(
        f'param_scheduler: {error}. A training this short (train_cfg.max_iters) needs a shorter warm-up: change begin '
        'and end of the schedulers with it.'
    )


class ScheduleParam(_ParamScheduler):
    """An option of parameter groups from a schedule: each group's own value times ``schedule(iteration, end)``.

    Args:
        optimizer: Given by the runner.
        schedule: Config of a schedule whose values are factors, e.g.
            ``dict(type='mmmim.truncated_cosine', warmup_ratio=0.1)``.
        begin: First iteration of the schedule.
        end: Number of iterations; the runner gives ``train_cfg.max_iters`` when it is not set.
        last_step: Index of the last step that was done, for resuming; -1 before the first.
        by_epoch: Must be False.
        verbose: Whether to print every update.
    """

    param_name: str

    def __init__(
        self,
        optimizer: object,
        schedule: dict,
        end: Count,
        begin: Natural = 0,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            name = type(self).__name__
            raise InputError(f'mmmim.{name} counts iterations: set by_epoch=False in param_scheduler.')
        self._schedule = build_schedule(schedule)
        super().__init__(optimizer, self.param_name, begin, end, last_step, by_epoch, verbose)

    def state_dict(self) -> dict:
        """The step; values, schedule and length come from the config, as momentum schedules do."""
        return {'last_step': self.last_step, '_global_step': self._global_step}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go to a step and set the values of it."""
        super().load_state_dict(state_dict)
        for group, value in zip(self.optimizer.param_groups, self._get_value(), strict=True):
            group[self.param_name] = value

    def _get_value(self) -> list[float]:
        factor = self._schedule(self.last_step, self.end - self.begin)
        return [value * factor for value in self.base_values]


@PARAM_SCHEDULERS.register_module()
class ScheduleLR(ScheduleParam):
    """Learning rates from a schedule, see :class:`ScheduleParam`."""

    param_name = 'lr'


@PARAM_SCHEDULERS.register_module()
class ScheduleWeightDecay(ScheduleParam):
    """Weight decay from a schedule, see :class:`ScheduleParam`; groups without weight decay stay without.

    From 0.04 to 0.4 (I-JEPA): ``weight_decay=0.4`` of the optimiser and
    ``schedule=dict(type='mmmim.cosine', start=0.1, final=1.0, first=1)``.
    """

    param_name = 'weight_decay'
