"""What a model computes for an image: multiply-accumulates and parameters, module by module.

Nothing is trained and no data set is read: images are noise, masks are those of the config's collate function, and as a
rule all tensors are torch's fake ones, which have shapes and no memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from mmmim.config.images import training_channels, training_image_size
from mmmim.models import Encoder, MaskedImageModeling
from mmmim.registry import FUNCTIONS, MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.internals import fake_tensors

from .flop_counter import make_flop_counter


@dataclass
class Row:
    """A module, or the modules of a list together (``blocks.*``).

    Attributes:
        name: Dotted name of the module in the model.
        part: Name of the part of the model that it belongs to; its own for a part. Parts add up to the whole.
        caller: Name of the part that this one ran inside of, such as a target generator that calls the teacher; empty
            for none.
        calls: How often it ran.
        macs: Multiply-accumulates of all calls.
        parameters: How many the module has.
    """

    name: str
    part: str
    caller: str = ''
    calls: int = 0
    macs: float = 0
    parameters: int = 0

    @property
    def depth(self) -> int:
        """0 for a part, 1 for what it consists of, ...; lists do not count."""
        inner = self.name.removeprefix(self.part)
        return sum(bool(step) and step != '*' for step in inner.split('.'))


@dataclass
class _Tally:
    """What one entry of the table has collected; ``modules`` by identity, so that parameters count once."""

    row: Row
    modules: dict[int, nn.Module] = field(default_factory=dict)


class ModuleCounter:
    """Counts the multiply-accumulates of parts of a model and of all modules in them, while the model runs.

    Counted are matrix products, convolutions and attention (half of the FLOPs of the counter); a part does
    not contain what another part computes for it.

    Args:
        parts: Parts of the model by name. Of a part that is never called as a module, such as a head, the method
            ``loss`` is watched.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.parts = parts
        self.total = 0.0
        self._counter = make_flop_counter()
        self._running: list[tuple[str, list[tuple[str, str]]]] = []  # parts, and the modules running in each
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def _settle(self) -> None:
        """Give what was computed since the last call to the modules that are running."""
        macs = self._counter.get_total_flops() / 2
        for key in set(self._running[-1][1]) if self._running else ():
            self._tallies[key].row.macs += macs - self.total
        self.total = macs

    def _enter(self, part: str, name: str, module: nn.Module) -> None:
        self._settle()
        if not self._running or self._running[-1][0] != part:
            self._running.append((part, []))
        caller = self._running[-2][0] if len(self._running) > 1 else ''
        key = (caller, re.sub(r'\.\d+(?=\.|$)', '.*', name))
        tally = self._tallies.setdefault(key, _Tally(Row(key[1], part, caller)))
        tally.row.calls += key not in self._running[-1][1]  # a head's loss may call the head
        tally.modules[id(module)] = module
        self._running[-1][1].append(key)

    def _leave(self) -> None:
        self._settle()
        self._running[-1][1].pop()
        if not self._running[-1][1]:
            self._running.pop()

    def _watch_loss(self, part: str, stack: ExitStack) -> None:
        module = self.parts[part]
        method = module.loss

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._enter(part, part, module)
            try:
                return method(*args, **kwargs)
            finally:
                self._leave()

        module.loss = watched
        stack.callback(delattr, module, 'loss')  # the class has its own

    def count(self, function: Callable[[], Any]) -> Any:
        """Run a function that uses the model, and count."""

        def enter(part: str, name: str) -> Callable[..., None]:
            return lambda module, _: self._enter(part, name, module)

        with ExitStack() as stack:
            for part, root in self.parts.items():
                for name, module in root.named_modules(prefix=part):
                    stack.callback(module.register_forward_pre_hook(enter(part, name)).remove)
                    stack.callback(module.register_forward_hook(lambda *_: self._leave(), always_call=True).remove)
                if hasattr(root, 'loss'):
                    self._watch_loss(part, stack)
            with self._counter:
                result = function()
            self._settle()
        return result

    def rows(self, depth: int = 1) -> list[Row]:
        """In the order in which parts ran, down to a depth below them; without those that compute and hold nothing.

        Multiply-accumulates of rows of depth 0 add up to ``total``, up to what ran outside of all parts.
        """
        found = [
            replace(tally.row, parameters=sum(_numel(module) for module in tally.modules.values()))
            for tally in self._tallies.values()
        ]
        order = list(dict.fromkeys((row.caller, row.part) for row in found))
        found.sort(key=lambda row: order.index((row.caller, row.part)))
        return [row for row in found if row.depth <= depth and (row.macs or row.parameters)]


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def model_parts(model: MaskedImageModeling) -> dict[str, nn.Module]:
    """Parts by name: the encoder, those of the branches, those of the teacher."""
    parts = {'backbone': model.backbone}
    for branch, module in model.branches.items():
        parts |= {f'branches.{branch}.{name}': part for name, part in module.named_children()}
    if model.teacher is not None:
        parts |= {f'teacher.{name}': model.teacher.get_submodule(name) for name in model.teacher.parts}
    return parts


def make_batch(cfg: Any, images: int) -> dict[str, Any]:
    """A batch of synthetic images with the masks that the collate function of a config draws.

    Raises:
        InputError: The config has no collate function.
    """
    from mmmim.datasets import SyntheticImages

    collate = dict(cfg.train_dataloader.get('collate_fn') or {})
    if 'type' not in collate:
        raise InputError(
            "The config draws no masks: set train_dataloader.collate_fn=dict(type='mmmim.MaskCollate', ...)."
        )
    data = SyntheticImages(training_image_size(cfg), channels=training_channels(cfg))
    samples = [{**data[i], 'mask_seed': i} for i in range(images)]
    return FUNCTIONS.get(collate.pop('type'))(samples, **collate)


@dataclass
class Costs:
    """Of a config, per batch of ``images``; see :func:`count_config`.

    Attributes:
        images: Size of the batch.
        size: ``(height, width)`` of the training images in pixels.
        mask: Mask of the batch.
        training: Rows of the forward passes of a training step.
        training_macs: Multiply-accumulates of the forward passes of a training step, those outside of all parts
            included.
        step_macs: Multiply-accumulates of a training step, forward and backward.
        inference: Rows of the backbone on whole images.
        inference_macs: Multiply-accumulates of the backbone on whole images.
        inference_size: ``(height, width)`` of these images.
        trained: Parameters that are trained.
        kept: Parameters of the encoder without what only pre-training needs.
        teacher: Parameters of the teacher, copies of trained ones.
    """

    images: int
    size: tuple[int, int]
    mask: PatchMask
    training: list[Row]
    training_macs: float
    step_macs: float
    inference: list[Row]
    inference_macs: float
    inference_size: tuple[int, int]
    trained: int
    kept: int
    teacher: int


def count_config(cfg: Any, images: int = 2, depth: int = 1) -> Costs:
    """Count what a training config computes.

    The training step is that of the whole batch, in evaluation mode: nothing is deducted for stochastic depth.

    Args:
        cfg: mmengine's ``Config`` of a training.
        images: Size of the batch.
        depth: How many levels of modules below the parts of the model have rows of their own.

    Returns:
        The counts.

    Raises:
        InputError: The config is not one of masked image modelling.
    """
    for key in ('model', 'train_dataloader'):
        if cfg.get(key) is None:
            raise InputError(f'The config has no {key}: give the config of a training.')
    batch = make_batch(cfg, images)
    try:
        with torch.device('meta'):  # which initialises nothing
            model = _build(cfg)
        with fake_tensors():
            return _count(model.to_empty(device='cpu'), batch, depth)
    except RuntimeError:  # what depends on values cannot be faked; an error of the model itself comes again
        return _count(_build(cfg), batch, depth)


def _build(cfg: Any) -> MaskedImageModeling:
    model = MODELS.build(cfg.model).eval()
    if not isinstance(model, MaskedImageModeling):
        raise InputError(f'model.type must be mmmim.MaskedImageModeling, not {cfg.model.type}.')
    return model


def _leave_out(encoder: Encoder, parts: Sequence[nn.Module | nn.Parameter]) -> None:
    """Take out what only pre-training reads: modules let everything through, parameters are gone."""
    for name, child in list(encoder.named_children()):
        if any(child is part for part in parts):
            setattr(encoder, name, nn.Identity())
    for name, parameter in list(encoder.named_parameters(recurse=False)):
        if any(parameter is part for part in parts):
            setattr(encoder, name, None)


@torch.no_grad()
def _count(model: MaskedImageModeling, batch: dict[str, Any], depth: int) -> Costs:
    backbone, mask = model.backbone, batch['mask']
    inputs = torch.zeros(batch['inputs'].shape)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    counter = ModuleCounter(model_parts(model))
    with torch.enable_grad():
        (losses,) = counter.count(lambda: model(inputs, mask, mode='predict'))
        with make_flop_counter() as backward:
            losses['loss'].backward()
    training = counter.rows(depth)
    _leave_out(backbone, list(backbone.unread(backbone.depth, final_norm=True)))
    height, width = backbone.grid
    whole = torch.zeros(*inputs.shape[:2], height * backbone.patch_size, width * backbone.patch_size)
    inference = ModuleCounter({'backbone': backbone})
    inference.count(lambda: backbone(whole))
    return Costs(
        images=len(inputs),
        size=(inputs.shape[2], inputs.shape[3]),
        mask=mask,
        training=training,
        training_macs=counter.total,
        step_macs=counter.total + backward.get_total_flops() / 2,
        inference=inference.rows(depth),
        inference_macs=inference.total,
        inference_size=(whole.shape[2], whole.shape[3]),
        trained=trained,
        kept=_numel(backbone),
        teacher=0 if model.teacher is None else _numel(model.teacher),
    )
