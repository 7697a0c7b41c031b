"""Whether a run is healthy or collapsing, while it trains."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmmim.engine.ddp import bare_model, gathered, takes_part
from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share, prototypes_in_use, target_entropy
from mmmim.evaluation.measures.health_rules import diagnose, diagnose_gradients, update_healthiest
from mmmim.evaluation.measures.rankme import rankme
from mmmim.features.extraction import eval_mode
from mmmim.models import MaskedImageModeling, TargetGenerator
from mmmim.models.teacher import encode_in_pieces
from mmmim.registry import HOOKS
from mmmim.structures import PatchMask
from mmmim.utils.options import Count, Range
from mmmim.utils.precision import widest_float

from .runtime_info_hook import RuntimeInfoHook

# Thresholds are relative to the healthiest report of the run so far, because random encoders differ. What healthy and
# collapsed runs measured stands in docs/en/health.md.


#: Where a checkpoint holds when the last report was and what it warned of.
_HISTORY = 'health_history'

#: Under this name the message hub has the warnings that were given: iteration and text.
WARNINGS = 'health_warnings'

#: Of fewer images, pooled features say nothing: their RankMe is the number of images at most.
MIN_IMAGES = 16

#: At most so many patch tokens are measured, spread evenly over the images.
MAX_TOKENS = 2048
#: Entropy and positional share are those of at most so many values of a branch's targets; each of the few tensors of
#: such a measure is then 256 MiB in fp64 at most.
MAX_TARGET_VALUES = 2**25


def given_warnings(hub: Any) -> list[list[Any]]:
    """The warnings of a training so far, iteration and text each; none where a checkpoint holds something else.

    Args:
        hub: The message hub of the runner.
    """
    found = hub.get_info(WARNINGS, [])
    pairs = isinstance(found, list) and all(isinstance(each, list) and len(each) == 2 for each in found)
    return found if pairs and all(type(step) is int and isinstance(text, str) for step, text in found) else []


def _baseline(stored: Any, images: int) -> tuple[Any, dict[str, float]]:
    """Images and healthiest values that are stored; none where a checkpoint holds something else."""
    if not isinstance(stored, tuple) or len(stored) != 2 or not isinstance(stored[1], dict):
        return images, {}
    return stored[0], {str(key): value for key, value in stored[1].items() if isinstance(value, float)}


def _evenly(rows: Tensor, number: int) -> Tensor:
    """At most ``number`` of the rows, spread evenly."""
    if len(rows) <= number:
        return rows
    wide = widest_float(rows.device)
    index = torch.linspace(0, len(rows) - 1, number, dtype=wide, device=rows.device).long()
    return rows[index.clamp(max=len(rows) - 1)]


@HOOKS.register_module()
class HealthHook(Hook):
    """Report the health of a :class:`MaskedImageModeling`, and warn when it is collapsing.

    After the first and the last iteration of a training and every ``interval`` iterations, on the images of the
    iteration, logs
    ``health/{student,teacher}_{rankme,cosine}_{pooled,patches}`` of whole images in eval mode,
    ``health/<branch>_positional_share`` of the targets, ``health/<branch>_{target_entropy,prototypes_in_use}`` where
    targets are distributions (a target generator says so by an attribute ``distribution = True``), the second also
    where they are tokens (then it has an attribute ``num_tokens``), and ``health/grad_norm``, the mean since the last
    report. docs/en/health.md says what they mean.

    A threshold that is crossed is a warning, once until it is no longer crossed. The first report is of nearly random
    weights: it is what later ones are compared with. What they are compared with, the gradient norms and which warnings
    were given travel in the checkpoint, so a training that is resumed reports as one that was not interrupted.

    Training is not changed: no gradients, no random numbers, modes restored. Under data parallelism all processes make
    targets, since clustering reduces over them; values are those of the first process.

    Args:
        interval: Iterations between reports.
        images: At most so many images of the first process go through the encoders.
    """

    # After the teacher has moved; before IterTimerHook, so that the time of a report belongs to its iteration.
    priority = 'ABOVE_NORMAL'
    only_reports = True

    # Measures compare images.
    def __init__(self, interval: Count = 1000, images: Annotated[int, Range(2)] = 256) -> None:
        self.interval, self.images = interval, images

    def before_train(self, runner: Any) -> None:
        """Start without a report, or go on with those of a checkpoint; leave models of other kinds alone."""
        self._last: int | None = None
        self._warned: set[str] = set()
        saved = runner.message_hub.get_info(_HISTORY) if runner.iter else None
        if isinstance(saved, dict) and type(saved.get('last')) is int and 0 <= saved['last'] <= runner.iter:
            warned = saved.get('warned')
            self._last = saved['last']
            self._warned = {str(kind) for kind in warned} if isinstance(warned, list) else set()
        model = bare_model(runner)
        self._active = isinstance(model, MaskedImageModeling)
        if not self._active:
            runner.logger.info(f'No health reports: {type(model).__name__} is not an mmmim.MaskedImageModeling.')

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Report, if it is time."""
        due = self._last is None or self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if not (due and self._active):
            return
        for hook in runner.hooks:  # a reduction over the processes, so before what only one of them does
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(runner)
        measures = self._measure(runner, data_batch)
        if is_main_process():
            numbers = torch.stack(list(measures.values())).tolist()  # all values in one transfer
            images = min(self.images, len(data_batch['inputs']))
            self._report(runner, {f'health/{k}': value for k, value in zip(measures, numbers, strict=True)}, images)
        self._last = runner.iter

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add what the next report needs beside the gradient norms, which RuntimeInfoHook adds."""
        if getattr(self, '_last', None) is None:
            return
        info = {'last': self._last, 'warned': sorted(self._warned)}
        checkpoint['message_hub']['runtime_info'][_HISTORY] = info
        checkpoint['message_hub']['resumed_keys'][_HISTORY] = True

    def _measure(self, runner: Any, data_batch: Any) -> dict[str, Tensor]:
        """All measures but the gradient norm, on the device; none where this process does not take part."""
        model = bare_model(runner)
        data = model.data_preprocessor(data_batch, training=False)
        images, mask = data['inputs'], data['mask']
        measures: dict[str, Tensor] = {}
        with eval_mode(model), gathered(runner):
            with runner.optim_wrapper.optim_context(runner.model):
                targets = model.targets(images, mask, data.get('second'))
            if not takes_part(runner):
                return {}
            for name in list(targets):
                generator = model.branches[name].target_generator
                measures |= _measure_targets(name, targets.pop(name).patches, mask, generator)
            # Patches that do not touch each other are those of the mask; others are those of the whole image.
            number = min(self.images, len(images))
            whole = None if mask.offsets is None else mask.images(0, number, len(images)).of_all
            images = images[:number]
            for name, part in (('student', model), ('teacher', model.teacher)):
                if part is model or (part is not None and 'backbone' in part.parts):
                    measures |= _measure_features(name, part.backbone, images, whole, model.micro_batch_size)
        return measures

    def _report(self, runner: Any, values: dict[str, float], images: int) -> None:
        hub, step = runner.message_hub, runner.iter + 1
        # Ranks of other numbers of images, before a run was resumed on other GPUs, do not compare.
        before_images, healthiest = _baseline(hub.get_info('health'), images)
        if before_images != images:
            healthiest = {key: value for key, value in healthiest.items() if '_rankme_' not in key}
        judged = {key: value for key, value in values.items() if images >= MIN_IMAGES or '_pooled' not in key}
        found = diagnose(judged, healthiest)
        hub.update_info('health', (images, update_healthiest(healthiest, judged)))

        recent, before = self._gradient_norms(runner)
        if len(recent):
            values['health/grad_norm'] = float(recent.mean())
            if len(before):
                found |= diagnose_gradients(values['health/grad_norm'], float(np.median(before)))

        line = [f'{key.removeprefix("health/")}: {value:.4g}' for key, value in values.items() if 'pooled' not in key]
        runner.logger.info(f'Health [{step}/{runner.max_iters}]  {"  ".join(line)}')
        # With `iter`, as LoggerHook's values of the training have it.
        runner.visualizer.add_scalars({**values, 'iter': step}, step=step)
        for kind, warning in found.items():
            if kind not in self._warned:
                runner.logger.warning(f'{warning} See docs/en/health.md.')
                hub.update_info(WARNINGS, [*given_warnings(hub), [step, warning]])
        self._warned = set(found)

    def _gradient_norms(self, runner: Any) -> tuple[np.ndarray, np.ndarray]:
        """Finite gradient norms since the last report and before it."""
        if self._last is None or 'train/grad_norm' not in runner.message_hub.log_scalars:
            return np.empty(0), np.empty(0)
        norms = runner.message_hub.get_scalar('train/grad_norm').data[0]
        recent, before = norms[self._last - runner.iter :], norms[: self._last - runner.iter]
        return recent[np.isfinite(recent)], before[np.isfinite(before)]


def _measure_features(
    name: str, backbone: nn.Module, images: Tensor, whole: PatchMask | None, step: int | None
) -> dict[str, Tensor]:
    """RankMe and cosine of pooled and patch features, in fp32: rounding to bf16 adds rank."""
    tokens = encode_in_pieces(backbone, images, whole, step).visible
    features = {'pooled': tokens.mean(dim=1), 'patches': _evenly(tokens.flatten(0, 1), MAX_TOKENS)}
    rank = {f'{name}_rankme_{key}': rankme(value) for key, value in features.items()}
    return rank | {f'{name}_cosine_{key}': mean_pairwise_cosine(value) for key, value in features.items()}


def _measure_targets(name: str, patches: Tensor, mask: PatchMask, generator: TargetGenerator) -> dict[str, Tensor]:
    """Measures of the targets of a branch, ``[G, T*M, K]``, or ``[G, T*M]`` where they are tokens."""
    rows, position = patches.flatten(0, 1), mask.flat_predict().flatten()
    tokens = generator.num_tokens
    number = MAX_TARGET_VALUES // (tokens or rows.shape[1])
    some, where = _evenly(rows, number), _evenly(position, number)
    if tokens is not None:
        rows = some = F.one_hot(some, tokens)
    measures = {f'{name}_positional_share': positional_share(some, where, math.prod(mask.grid))}
    if generator.distribution:
        measures[f'{name}_target_entropy'] = target_entropy(some)
    if tokens is not None or generator.distribution:
        measures[f'{name}_prototypes_in_use'] = prototypes_in_use(rows)
    return measures
