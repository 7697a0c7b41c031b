"""Runs a captured step again and says where what is not finite comes from."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.checkpoints import check_state_dict, load_checkpoint_file, load_state_dict, weights_of
from mmmim.checkpoints.pretrained import LATER, backbones
from mmmim.checkpoints.stored_config import check_stored_model
from mmmim.engine.nonfinite import VERSION, StepReport, run_step
from mmmim.engine.stored_batch import images_of, unpack
from mmmim.features.pretrained_backbone import is_wrapped
from mmmim.models.stored import build_stored
from mmmim.utils import InputError
from mmmim.utils.nested import present
from mmmim.utils.tables import markdown_table

#: Names that a table lists; of more it says how many.
MOST = 8


@dataclass
class Replay:
    """What a replay found.

    Attributes:
        capture: File of the captured step.
        report: What came out of the step as it was.
        exact: What came out of the step in fp32, where the training was in another type; None elsewhere.
    """

    capture: dict[str, Any]
    report: StepReport
    exact: StepReport | None

    def text(self) -> str:
        """Tables and sentences."""
        return '\n'.join(
            [_where(self.capture), '', _images(self.capture), '', _losses(self.report), '', *self._verdict()]
        )

    def _verdict(self) -> list[str]:
        bad, report = self.capture['not_finite'], self.report
        lines = []
        if bad['weights']:
            lines.append(f'Weights that are not finite before the step: {_few(bad["weights"])}.')
        if bad['images']:
            lines.append(f'Images that are not finite: {", ".join(str(i) for i in bad["images"])} (see the table).')
        lines.append(
            f'First module whose output is not finite, in the order of the forward pass: {report.first or "none"}.'
        )
        lines.append(
            f'Parameters whose gradient is not finite: {len(report.gradients)} of {report.with_gradient}'
            + (f': {_few(report.gradients)}.' if report.gradients else '.')
        )
        if not (report.bad_losses or report.gradients):
            lines.append(
                'The step is finite here. It was not where it was captured: another device, library or number of '
                'processes computes something else'
                + ('.' if self.capture['seeded'] else ', or random numbers differ, as the config has no StepSeedHook.')
            )
        elif self.exact is None:
            lines.append('The step ran in fp32: precision is not the cause.')
        elif self.exact.bad_losses or self.exact.gradients:
            lines.append(
                f'In fp32 instead of {self.capture["dtype"]} it is not finite either: precision is not the cause.'
            )
        else:
            lines.append(
                f'In fp32 instead of {self.capture["dtype"]} it is finite: set optim_wrapper.dtype=None'
                + (', or bfloat16 (--amp), which has the range of fp32.' if self.capture['dtype'] == 'float16' else '.')
            )
        return lines


def replay(path: str, device: str = 'cpu', weights: str | None = None) -> Replay:
    """Run a captured step again.

    The model is that of the file, which may name only classes that are registered; so those of a project must have been
    imported before. Nothing is written.

    Args:
        path: File that a training wrote, ``nonfinite_iter_N.pth``.
        device: Device to run the step on.
        weights: A checkpoint whose weights to take instead, for captures without: those of other than the first process
            of a model that was divided among processes.

    Raises:
        InputError: The file is no such capture, or its model or weights cannot be used.
    """
    capture = load_checkpoint_file(path)
    needed = (
        'iteration',
        'seed',
        'rank',
        'seeded',
        'mmmim',
        'batch',
        'not_finite',
        'state_dict',
        'dtype',
        'loss_scale',
    )
    version = capture.get('nonfinite')
    if not isinstance(version, int) or version != VERSION or any(key not in capture for key in needed):
        raise InputError(
            f'{path} is no capture of a step, nonfinite_iter_N.pth, which a training writes when it learns nothing any '
            'more.'
        )
    _check_facts(capture, path)
    state: Any = capture['state_dict'] if weights is None else load_checkpoint_file(weights).get('state_dict')
    if not isinstance(state, Mapping) or not state:
        raise InputError(f'{weights or path} holds no weights: give a checkpoint of the run with --checkpoint.')
    model = _model(capture, path)
    _load(model, state, weights or path)
    model.to(device)
    for name, value in (capture.get('scheduled') or {}).items():
        _set_number(model, name, value, path)
    dtype = _dtype(capture['dtype'])
    try:
        batch = unpack(capture['batch'])
        seeds = (int(capture['seed']), int(capture['rank']), int(capture['iteration']) - 1)
        report = run_step(model, batch, seeds, dtype, float(capture['loss_scale']), watch=True)
        exact = None if dtype in (None, torch.float32) else run_step(model, batch, seeds)
    except torch.OutOfMemoryError as error:
        raise InputError(f'The step of {path} does not fit into the memory of {device}: use --device cpu.') from error
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError) as error:
        raise InputError(f'The step of {path} cannot be run: {type(error).__name__}: {error}') from error
    return Replay(capture, report, exact)


def _check_facts(capture: dict[str, Any], path: str) -> None:
    """Refuse facts of another kind than a training writes, which tables would fail at."""
    bad = capture['not_finite']
    right = {
        **{key: _is_count(capture[key]) for key in ('iteration', 'seed', 'rank')},
        'world_size': _is_count(capture.get('world_size', 1)),
        'dtype': isinstance(capture['dtype'], str | None),
        'loss_scale': isinstance(capture['loss_scale'], int | float),
        'scheduled': isinstance(capture.get('scheduled'), dict | None),
        'images': capture.get('images') is None or _is_list(capture['images'], str),
        'not_finite': isinstance(bad, dict) and _is_list(bad.get('weights'), str) and _is_list(bad.get('images'), int),
    }
    if wrong := [key for key, is_right in right.items() if not is_right]:
        raise InputError(f'{path}: {wrong[0]}={str(capture[wrong[0]])[:100]!r} is not what a training captures there.')


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, kind) for each in value)


def _set_number(model: nn.Module, name: str, value: Any, path: str) -> None:
    """Set a number that a schedule had moved."""
    part, _, attribute = str(name).rpartition('.')
    try:
        owner = model.get_submodule(part)
    except AttributeError:
        raise InputError(f'{path} has a value for {name}, and its model no part {part!r}.') from None
    if not all(isinstance(number, int | float) for number in (getattr(owner, attribute, None), value)):
        raise InputError(f'{path} has a value for {name}, which is no number of its model.')
    setattr(owner, attribute, value)


def _load(model: nn.Module, state: Any, source: str) -> None:
    """Load weights strictly, but for values that are not finite, which may be what is looked for."""
    weights = weights_of({'state_dict': state}, source)
    check_state_dict(model, weights, source)  # sizes first: copies of weights that repeat themselves take much memory
    sound = {
        key: value.nan_to_num(0.0, 0.0, 0.0) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in weights.items()
    }
    load_state_dict(model, sound, source)
    model.load_state_dict(state)


def _dtype(name: Any) -> torch.dtype | None:
    known = {'float16': torch.float16, 'bfloat16': torch.bfloat16, 'float32': torch.float32, None: None}
    if name not in known:
        raise InputError(
            f'The capture was made in {name!r}: a type among {", ".join(str(k) for k in known)} is expected.'
        )
    return known[name]


def _model(capture: dict[str, Any], path: str) -> nn.Module:
    """The model of a capture; its weights, those of tokenizers and encoders included, are to come from the capture."""
    info = capture['mmmim']
    model = copy.deepcopy(info.get('model') if isinstance(info, dict) else None)
    if not isinstance(model, dict):
        raise InputError(f'{path} does not hold the config of a model.')
    check_stored_model(model, path)
    targets = [branch.get('target_generator', {}) for branch in present(model.get('branches')).values()]
    for target in targets:
        if isinstance(tokenizer := target.get('tokenizer'), dict):
            for key in ('codebook', 'weights'):
                tokenizer.pop(key, None)
            tokenizer['untrained'] = True
        if isinstance(encoder := target.get('encoder'), dict) and is_wrapped(encoder):
            encoder['weights'] = None
    for backbone in backbones(model):
        backbone.update(checkpoint=LATER, weights='auto')
    return build_stored(check_stored_model(model, path, builds_targets=True), None, path)


def _where(capture: dict[str, Any]) -> str:
    precision = capture['dtype'] or 'float32'
    scale = f', loss scale {capture["loss_scale"]:g}' if capture['dtype'] == 'float16' else ''
    processes = f', process {capture["rank"]} of {capture["world_size"]}' if capture.get('world_size', 1) > 1 else ''
    return f'Iteration {capture["iteration"]}, seed {capture["seed"]}{processes}, {precision}{scale}'


def _images(capture: dict[str, Any]) -> str:
    paths = capture.get('images') or []
    rows = []
    for i, image in enumerate(images_of(capture['batch'])):
        finite = image.float().isfinite()
        known = image.float()[finite]
        low, high = (f'{float(f(known)):g}' if known.numel() else '-' for f in (Tensor.min, Tensor.max))
        name = os.path.basename(paths[i]) if i < len(paths) else ''
        rows.append([str(i), name, 'yes' if bool(finite.all()) else f'NO ({int((~finite).sum())} values)', low, high])
    return markdown_table(['image', 'file', 'finite', 'least', 'greatest'], rows)


def _losses(report: StepReport) -> str:
    return markdown_table(['value', 'of the step'], [[key, f'{value:.6g}'] for key, value in report.losses.items()])


def _few(names: list[str]) -> str:
    return ', '.join(names[:MOST]) + (f' and {len(names) - MOST} more' if len(names) > MOST else '')
