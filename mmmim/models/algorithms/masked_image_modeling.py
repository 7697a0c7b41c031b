"""One algorithm for every masked image modelling method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Target
from mmmim.utils import InputError
from mmmim.utils.internals import accumulated_batches
from mmmim.utils.nested import present
from mmmim.utils.options import Count, NonNegative, OptionsOf, check_options, check_value

from ..data_preprocessors import MIMDataPreprocessor
from ..interfaces import Encoder, Head, Neck, Sizes, TargetGenerator, check_part, check_sizes, most_read
from ..layers import blocks_of, check_mode, layer_index, set_checkpointing
from ..teacher import EMACopy

Losses = dict[str, Tensor]


class DataParallel(Protocol):
    """A data-parallel wrapper around a model."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's ``forward``, synchronising gradients."""

    def no_sync(self) -> AbstractContextManager[None]:
        """For backward passes whose gradients are not synchronised yet."""


@dataclass(frozen=True)
class MicroBatch:
    """Some images of a batch.

    Attributes:
        images: ``[b, C, H, W]``.
        mask: Mask of these images.
        targets: Targets of these images, by branch.
        share: b over the images of the batch.
        last: Whether it is the last of the batch.
    """

    images: Tensor
    mask: PatchMask
    targets: dict[str, Target]
    share: float
    last: bool


class Branch(nn.Module):
    """A reconstruction branch: what is the target, how it is predicted, how the two are compared.

    Args:
        target_generator: Config of a :class:`TargetGenerator`.
        neck: Config of a :class:`Neck`.
        head: Config of a :class:`Head`.
        weight: Factor of all losses of the branch.
    """

    def __init__(self, target_generator: dict, neck: dict, head: dict, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.target_generator = MODELS.build(target_generator)
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head)
        self.weight = weight

    @property
    def reads(self) -> str:
        """What neck and head read of the encoder's last block."""
        return most_read([self.neck.reads, self.head.reads])

    def layers(self, depth: int) -> list[int]:
        """Blocks whose states the neck reads, counted from 0, of an encoder of ``depth`` blocks.

        Raises:
            InputError: Neck or target generator read the state of a block that there is not.
        """
        for layer in self.target_generator.layers:
            layer_index(layer, depth)
        return [layer_index(layer, depth) for layer in self.neck.layers]

    def sizes(self, key: str) -> dict[str, Sizes]:
        """Of its parts, by their config keys below ``key``."""
        return {f'{key}.{part}': getattr(self, part).sizes() for part in ('target_generator', 'head', 'neck')}


def _branch(name: str, options: dict) -> Branch:
    check_value(f'model.branches.{name}', options, dict)
    check_options(Branch, options, f'model.branches.{name}')
    branch = Branch(**options)
    for part, kind in (('target_generator', TargetGenerator), ('neck', Neck), ('head', Head)):
        check_part(getattr(branch, part), kind, f'model.branches.{name}.{part}')
    return branch


def _check_channels(encoder: Encoder, preprocessor: nn.Module) -> None:
    """Refuse statistics of another number of channels than the encoder takes.

    Raises:
        InputError: Naming both config keys.
    """
    mean = getattr(preprocessor, 'mean', ())  # those of other libraries may have none
    if len(mean) not in (0, 1, encoder.in_channels):  # one value stands for all channels
        raise InputError(
            f'model.backbone.in_channels is {encoder.in_channels} and model.data_preprocessor.mean has {len(mean)} '
            'values: give mean and std one value per channel.'
        )


@MODELS.register_module()
class MaskedImageModeling(BaseModel):
    """A backbone and reconstruction branches under a masking strategy.

    CAPI, Latent MIM, PiLaMIM, SemanticMIM, MAE, I-JEPA and BEiT are configs of this class: they differ in masks (made
    by the collate function), backbone, target generators, necks and heads.

    An iteration is one optimiser step. A batch that does not fit is split into micro-batches inside the step: the
    teacher and the target generators see all of it, the student a micro-batch at a time, so assignments, losses and
    gradients are those of the unsplit batch.

    Args:
        backbone: Config of the encoder, ``backbone(images, mask) -> Context``.
        branches: Configs of :class:`Branch` by name; None for one of a base config that is switched off.
        teacher: Names of the parts that the EMA teacher copies, e.g. ``['backbone', 'branches.capi.neck']``; None for
            methods without a teacher.
        teacher_init: Where the teacher's first weights come from. 'student': those of the student. 'own': drawn on
            their own, as in the released code of PiLaMIM (unlike its paper).
        micro_batch_size: Images of one forward and backward pass of the student (and forward of the teacher); None:
            the whole batch; 'auto': ``mmmim.TrainingInfoHook`` chooses before the first step, on a GPU the most that
            fit, on a CPU what is fastest. Sums of other micro-batches are rounded in another way.
        activation_checkpointing: What the backward pass through the student's blocks recomputes instead of keeping
            it: None: GELU; 'selective': all but matrix products and attention; 'full': everything.
        data_preprocessor: Config of the data preprocessor, such as ``mmmim.MIMDataPreprocessor``.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        backbone: dict,
        branches: Annotated[dict, OptionsOf(Branch, each=True)],
        teacher: Sequence[str] | None = None,
        teacher_init: str = 'student',
        micro_batch_size: Count | Literal['auto'] | None = None,
        activation_checkpointing: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or {'type': 'mmmim.MIMDataPreprocessor'}, init_cfg)
        self.backbone = check_part(MODELS.build(backbone), Encoder, 'model.backbone')
        self.branches = nn.ModuleDict({name: _branch(name, cfg) for name, cfg in present(branches).items()})
        if not self.branches:
            raise InputError('model.branches has no branch, so there is nothing to learn: switch one on.')
        preprocessor = self.data_preprocessor
        statistics = preprocessor.sizes() if isinstance(preprocessor, MIMDataPreprocessor) else {}
        for name, branch in self.branches.items():
            sizes = branch.sizes(f'model.branches.{name}')
            check_sizes({**sizes, 'model.backbone': self.backbone.sizes(), 'model.data_preprocessor': statistics})
        _check_channels(self.backbone, preprocessor)
        #: Whether a training is still to choose; until it has, there is one micro-batch.
        self.micro_batch_to_choose = micro_batch_size == 'auto'
        self.micro_batch_size: int | None = None
        check_mode(activation_checkpointing)
        if activation_checkpointing is not None and not list(blocks_of(self.backbone)):
            raise InputError(
                f'model.activation_checkpointing={activation_checkpointing!r}: the blocks of a '
                f'{type(self.backbone).__name__} are no TransformerBlock of mmmim and recompute nothing: leave it out.'
            )
        set_checkpointing(self, activation_checkpointing)
        if teacher_init not in ('student', 'own'):
            raise InputError(f"model.teacher_init must be 'student' or 'own', got {teacher_init!r}.")
        self.teacher_init = teacher_init
        source = _drawn_anew(backbone, branches, teacher) if teacher and teacher_init == 'own' else self
        self.teacher = EMACopy(source, teacher) if teacher else None
        self.set_micro_batch_size(None if micro_batch_size == 'auto' else micro_batch_size)
        #: Blocks of the encoder whose states necks read.
        self.layers = sorted({i for branch in self.branches.values() for i in branch.layers(self.backbone.depth)})
        #: What the encoder is told of what is read of its last block.
        self.reads: str = most_read(branch.reads for branch in self.branches.values())

    def init_weights(self) -> None:
        """Initialise the student (modules do so when built; ``init_cfg`` may load weights), then copy the teacher."""
        super().init_weights()
        if self.teacher is not None and self.teacher_init == 'student':
            self.teacher.copy_from(self)

    def set_micro_batch_size(self, size: int | None) -> None:
        """Let student, teacher and the encoders of target generators see so many images at a time; None: all."""
        self.micro_batch_size = size
        frozen = [branch.target_generator for branch in self.branches.values()]
        for part in frozen if self.teacher is None else [self.teacher, *frozen]:
            part.micro_batch_size = size

    def describe_batch(self, per_gpu_batch: int, images: int) -> str:
        """How a step divides the batch of a GPU, and ``images`` over all GPUs, in words for the log."""
        parts = ['micro-batches of a size that is chosen before the first step']
        if not self.micro_batch_to_choose:
            parts = [f'micro-batches of {min(self.micro_batch_size or per_gpu_batch, per_gpu_batch)}']
        generators = [branch.target_generator for branch in self.branches.values()]
        parts += [generator.describe_batch(images) for generator in generators]
        return '; '.join(part for part in parts if part)

    def masks(self, images: Tensor, mask: PatchMask) -> PatchMask:
        """The masks of a step: those of the batch, or those that a target generator draws (MILAN).

        Raises:
            InputError: Masks and images have other numbers of patches.
        """
        mask.check_grid(images.shape, self.backbone.patch_size)
        for branch in self.branches.values():
            mask = branch.target_generator.mask(images, mask)
        return mask

    def targets(self, images: Tensor, mask: PatchMask, second: Tensor | None = None) -> dict[str, Target]:
        """Targets by branch, of a whole batch, of the generators whose targets are constants.

        Like ``forward`` it is called from outside of the model, where parameters may be sharded.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: What is predicted.
            second: Other pictures of the same crops, for the teacher; None: it sees the images.
        """
        return _targets(self, images, mask, differentiable=False, second=second)

    def loss(self, images: Tensor, mask: PatchMask, targets: dict[str, Target]) -> Losses:
        """Losses of the branches on a (micro-)batch; targets' own losses are not among them."""
        targets = targets | _targets(self, images, mask, differentiable=True)
        told = {'reads': self.reads} if self.backbone.takes_reads else {}
        context = self.backbone(images, mask, layers=self.layers, **told)
        losses = {}
        for name, branch in self.branches.items():
            prediction = self.prediction(branch, context, mask)
            for key, value in branch.head.loss(prediction, targets[name], context).items():
                losses[_loss_name(name, key)] = branch.weight * value
        return losses

    def prediction(self, branch: Any, context: Context, mask: PatchMask) -> Any:
        """What the neck of a branch predicts.

        Args:
            branch: One of ``branches``.
            context: The encoder's output, with the states of the blocks ``layers``.
            mask: Masks that the encoder has seen.
        """
        hidden = dict(zip(self.layers, context.hidden, strict=True))
        own = tuple(hidden[i] for i in branch.layers(self.backbone.depth))
        return branch.neck(replace(context, hidden=own), mask)

    def own_losses(self, targets: dict[str, Target]) -> Losses:
        """The losses that target generators return, of the whole batch."""
        return {
            _loss_name(name, key): self.branches[name].weight * value
            for name, target in targets.items()
            for key, value in target.losses.items()
        }

    def forward(
        self,
        inputs: Tensor,
        mask: PatchMask | None = None,
        data_samples: list | None = None,
        targets: dict[str, Target] | None = None,
        mode: str = 'tensor',
        second: Tensor | None = None,
    ) -> Context | Losses | list[Losses]:
        """Run the model.

        Args:
            inputs: ``[B, C, H, W]``, normalised.
            mask: What is visible and what is predicted.
            data_samples: Not used; passed by mmengine.
            targets: Targets of this (micro-)batch by branch that were made beforehand, for ``mode='loss'``.
            mode: 'tensor': the student's context; 'loss': losses of a micro-batch; 'predict': all losses of a batch,
                in a list of one dict as mmengine's evaluators expect.
            second: Other pictures of the same crops, for the teacher, where the pipeline makes them.

        Returns:
            As ``mode`` says.
        """
        if mode == 'tensor':
            return self.backbone(inputs, mask)
        if mask is None:
            raise InputError("The batch has no masks: set train_dataloader.collate_fn=dict(type='mmmim.MaskCollate').")
        if mode == 'loss':
            return self.loss(inputs, mask, targets or {})
        if mode == 'predict':
            mask = self.masks(inputs, mask)
            made = _targets(self, inputs, mask, differentiable=False, second=second)
            losses = self.loss(inputs, mask, made) | self.own_losses(made)
            return [{**losses, 'loss': torch.stack(list(losses.values())).sum(), 'images': len(inputs)}]
        raise InputError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}.")

    def micro_batches(self, images: Tensor, mask: PatchMask, targets: dict[str, Target]) -> Iterator[MicroBatch]:
        """Split a batch by its images."""
        size = len(images)
        step = self.micro_batch_size or size
        per_image = mask.num_masks // size
        for start in range(0, size, step):
            stop = min(start + step, size)
            rows = slice(start * per_image, stop * per_image)
            yield MicroBatch(
                images=images[start:stop],
                mask=mask.images(start, stop, size),
                targets={
                    name: replace(
                        target,
                        patches=target.patches[rows],
                        cls=None if target.cls is None else target.cls[rows],
                        others=None if target.others is None else target.others[rows],
                    )
                    for name, target in targets.items()
                },
                share=(stop - start) / size,
                last=stop == size,
            )

    def train_step(
        self, data: dict[str, Any], optim_wrapper: OptimWrapper, wrapper: DataParallel | None = None
    ) -> Losses:
        """One optimiser step on a batch, in micro-batches; nothing in it waits for the device.

        Args:
            data: Batch of the data loader: ``inputs``, ``mask`` and, where the pipeline makes them, ``second``.
            optim_wrapper: Steps, and skips the step when gradients are not finite.
            wrapper: The data-parallel wrapper around this model, whose ``forward`` synchronises gradients.

        Raises:
            InputError: The optimiser wrapper accumulates gradients over iterations.

        Returns:
            Detached losses of this process's batch: each, and their sum ``loss`` (RuntimeInfoHook logs means over all
            processes); and what the optimiser says of its step.
        """
        refuse_accumulation(accumulated_batches(optim_wrapper))
        model = self if wrapper is None else wrapper
        data = self.data_preprocessor(data, training=True)
        images, mask = data['inputs'], data['mask']
        with optim_wrapper.optim_context(model):
            mask = self.masks(images, mask)
            targets = self.targets(images, mask, data.get('second'))
        log = self.own_losses(targets)
        own = sum(log.values())
        weight = _rank_weight(images)

        for piece in self.micro_batches(images, mask, targets):
            sync = nullcontext() if piece.last or wrapper is None else wrapper.no_sync()
            with sync, optim_wrapper.optim_context(model):
                losses = model(piece.images, piece.mask, targets=piece.targets, mode='loss')
            # The targets' own losses join the last backward pass, the one whose gradients are synchronised.
            total = sum(losses.values()) * piece.share + (own if piece.last else 0)
            optim_wrapper.backward(total * weight)
            for key, value in losses.items():
                log[key] = log.get(key, 0) + value.detach() * piece.share
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        log = {key: value.detach() for key, value in log.items()}
        return {**log, 'loss': torch.stack(list(log.values())).sum(), **getattr(optim_wrapper, 'step_info', {})}


def _targets(
    model: MaskedImageModeling, images: Tensor, mask: PatchMask, differentiable: bool, second: Tensor | None = None
) -> dict[str, Target]:
    """Targets of the branches whose generator is ``differentiable``, or of those where it is not."""
    teacher = None if model.teacher is None else model.teacher.view(images if second is None else second)
    return {
        name: branch.target_generator(images, mask, teacher, model.backbone)
        for name, branch in model.branches.items()
        if branch.target_generator.differentiable == differentiable
    }


def _drawn_anew(backbone: dict, branches: dict, parts: Sequence[str]) -> nn.Module:
    """Named parts of a model with random weights of their own, under their names in the model."""
    source = nn.Module()
    if any(name.split('.')[0] == 'backbone' for name in parts):
        source.backbone = MODELS.build(backbone)
    wanted = {name.split('.')[1] for name in parts if name.startswith('branches.')}
    source.branches = nn.ModuleDict(
        {name: _branch(name, cfg) for name, cfg in present(branches).items() if name in wanted}
    )
    return source


def _loss_name(branch: str, key: str) -> str:
    """``loss`` and ``loss_clustering`` of branch ``capi``: ``loss_capi``, ``loss_capi_clustering``."""
    return f'loss_{branch}' + key.removeprefix('loss')


def refuse_accumulation(counts: Any) -> None:
    """Refuse to accumulate gradients over iterations: ``counts`` of them, other than 1, for one optimiser step.

    Raises:
        InputError: With what takes its place.
    """
    if counts != 1:
        raise InputError(
            'An iteration of MaskedImageModeling is one optimiser step: instead of optim_wrapper.accumulative_counts, '
            'set global_batch_size to the whole batch and model.micro_batch_size to what fits.'
        )


def _rank_weight(images: Tensor) -> Tensor | float:
    """What makes the mean over ranks of mean losses the mean over all images: 1 unless ranks have different numbers."""
    if get_world_size() == 1:
        return 1.0
    own = torch.full((), float(len(images)), device=images.device)
    total = own.clone()
    all_reduce(total)
    return own * get_world_size() / total
