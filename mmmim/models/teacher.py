"""The teacher: an exponential moving average of parts of the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.structures import Context, PatchMask
from mmmim.utils import InputError
from mmmim.utils.internals import foreach


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if hasattr(parameter, 'to_local') else parameter


def encode_in_pieces(
    backbone: nn.Module, images: Tensor, mask: PatchMask | None, step: int | None, **options: Any
) -> Context:
    """Encode a batch, some images at a time.

    Args:
        backbone: The encoder that is run.
        images: ``[B, C, H, W]``.
        mask: Mask whose visible patches are seen; None for the whole images.
        step: Images of one forward pass; None: all.
        options: Further arguments of the encoder's ``forward``.

    Returns:
        The context of the whole batch.
    """
    size = len(images)
    step = step or size
    pieces = []
    for start in range(0, size, step):
        stop = min(start + step, size)
        part = None if mask is None else mask.images(start, stop, size)
        pieces.append(backbone(images[start:stop], part, **options))
    return pieces[0] if len(pieces) == 1 else Context.cat(pieces)


class EMACopy(nn.Module):
    """Named parts of a model, copied without gradients, always in eval mode.

    The copy has the submodule names of the model (``teacher.backbone``, ``teacher.branches.capi.neck``), so the
    teacher's weights in a checkpoint are those of a model under the prefix ``teacher.``.

    Args:
        model: The model to copy parts of.
        parts: Names of submodules, e.g. ``('backbone', 'branches.capi.neck')``.
        micro_batch_size: Images of one forward pass; None: the whole batch at once. Results do not depend on it.

    Raises:
        InputError: The model has no submodule of a name.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], micro_batch_size: int | None = None) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.micro_batch_size = micro_batch_size
        for name in self.parts:
            try:
                source = model.get_submodule(name)
            except AttributeError as error:
                raise InputError(f'teacher: the model has no part {name!r} ({error}).') from None
            *path, leaf = name.split('.')
            parent: nn.Module = self
            for step in path:
                if not hasattr(parent, step):
                    parent.add_module(step, nn.Module())
                parent = getattr(parent, step)
            parent.add_module(leaf, copy.deepcopy(source).requires_grad_(False))
        self.eval()

    def train(self, mode: bool = True) -> EMACopy:
        """Stay in eval mode: the teacher has no drop path."""
        return super().train(False)

    def _pairs(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters of the copy and of the model, in the same order; this process's parts of them where divided."""
        own = [_local(p) for part in self.parts for p in self.get_submodule(part).parameters()]
        source = [_local(p) for part in self.parts for p in model.get_submodule(part).parameters()]
        return own, source

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Become an exact copy of the model's parts, buffers included."""
        for part in self.parts:
            self.get_submodule(part).load_state_dict(model.get_submodule(part).state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module, momentum: float, skipped: Tensor | None = None) -> None:
        """``teacher = momentum * teacher + (1 - momentum) * student``.

        Args:
            model: The model that holds the student.
            momentum: Share of the teacher that stays, in [0, 1].
            skipped: 1 on the device if the optimiser step was skipped (the teacher then stays as it is), else 0. No
                host sync.
        """
        own, source = self._pairs(model)
        if skipped is None:
            foreach('lerp_')(own, source, 1 - momentum)
        else:
            weight = (1 - momentum) * (1 - skipped)
            foreach('lerp_')(own, source, [weight.to(p.dtype) for p in own])

    @torch.no_grad()
    def encode(
        self,
        images: Tensor,
        mask: PatchMask | None = None,
        depth: int | None = None,
        layers: Sequence[int] = (),
        **options: Any,
    ) -> Context:
        """Encode a batch with the copied encoder, a micro-batch at a time.

        Args:
            images: ``[B, C, H, W]``.
            mask: Mask whose visible patches are seen; None for the whole images.
            depth: How many blocks to run; None for all.
            layers: Blocks whose states to keep in ``hidden``.
            options: Further arguments of the encoder's ``forward``.

        Returns:
            Context without gradient.
        """
        return encode_in_pieces(
            self.backbone, images, mask, self.micro_batch_size, layers=layers, depth=depth, **options
        )

    def view(self, images: Tensor) -> TeacherView:
        """The teacher looking at a batch: what target generators are given."""
        return TeacherView(self, images)


class TeacherView:
    """The teacher looking at one batch; what it sees is computed once, however many branches ask for it.

    Args:
        teacher: The EMA of the student.
        images: ``[B, C, H, W]``.
    """

    def __init__(self, teacher: EMACopy, images: Tensor) -> None:
        self.teacher, self.images = teacher, images
        self._seen: list[tuple[PatchMask | None, dict[str, Any], Context]] = []

    @property
    def backbone(self) -> nn.Module:
        """The copied encoder."""
        return self.teacher.backbone

    def part(self, name: str) -> nn.Module:
        """A copied part, e.g. ``'branches.ibot.head'``.

        Raises:
            AttributeError: The teacher has no such part.
        """
        return self.teacher.get_submodule(name)

    def encode(
        self, mask: PatchMask | None = None, depth: int | None = None, layers: Sequence[int] = (), **options: Any
    ) -> Context:
        """Context of the batch; arguments, which can be compared, as in :meth:`EMACopy.encode`."""
        asked = {'depth': depth, 'layers': tuple(layers), **options}
        for seen, its_arguments, context in self._seen:
            if seen is mask and its_arguments == asked:
                return context
        context = self.teacher.encode(self.images, mask, **asked)
        self._seen.append((mask, asked, context))
        return context
