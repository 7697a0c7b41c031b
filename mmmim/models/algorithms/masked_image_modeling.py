"""One algorithm for every masked image modelling method."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Target
from mmmim.utils import InputError
from mmmim.utils.options import Count, NonNegative, OptionsOf, check_options, check_value

from ..layers import check_mode, layer_index, set_checkpointing
from ..teacher import EMACopy

Losses = dict[str, Tensor]


class Branch(nn.Module):
    """A reconstruction branch: what is the target, how it is predicted, how the two are compared.

    * ``target_generator(images, mask, teacher, backbone) -> Target``. A generator whose targets carry gradients into
      the model says so by an attribute ``differentiable = True``.
    * ``neck(context, mask) -> Prediction``. A neck that reads states of the encoder's blocks says of which by an
      attribute ``layers``, and finds them in ``context.hidden`` in that order.
    * ``head.loss(prediction, target, context) -> dict`` of scalar losses.

    Args:
        target_generator: Config.
        neck: Config.
        head: Config.
        weight: Of all losses of the branch.
    """

    def __init__(self, target_generator: dict, neck: dict, head: dict, weight: NonNegative = 1.0) -> None:
        super().__init__()
        self.target_generator = MODELS.build(target_generator)
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head)
        self.weight = weight

    @property
    def differentiable(self) -> bool:
        """Whether targets carry gradients into the model."""
        return getattr(self.target_generator, 'differentiable', False)


def _branch(name: str, options: dict) -> Branch:
    check_value(f'model.branches.{name}', options, dict)
    check_options(Branch, options, f'model.branches.{name}')
    return Branch(**options)


def _size(part: nn.Module, key: str) -> Any:
    value = getattr(part, key, None)
    if isinstance(value, Tensor):  # which has no values on the meta device
        return None if value.is_meta else value.flatten().tolist()
    return value


def _check_sizes(model: 'MaskedImageModeling', branch: Branch, name: str) -> None:
    """Refuse parts whose sizes contradict each other, where they tell them by an attribute.

    Raises:
        InputError: Naming both config keys.
    """
    parts = {
        'model.backbone': model.backbone,
        'model.data_preprocessor': model.data_preprocessor,
        f'{name}.neck': branch.neck,
        f'{name}.head': branch.head,
        f'{name}.target_generator': branch.target_generator,
    }
    backbone_name, preprocessor_name, neck_name, head_name, target_name = parts
    for one, key, other, other_key in [
        (target_name, 'in_channels', backbone_name, 'in_channels'),  # first: other sizes follow from it
        (neck_name, 'context_dim', backbone_name, 'embed_dim'),
        (head_name, 'in_dim', neck_name, 'out_dim'),
        (target_name, 'in_dim', backbone_name, 'embed_dim'),
        (target_name, 'num_prototypes', head_name, 'num_prototypes'),
        (target_name, 'patch_size', backbone_name, 'patch_size'),
        (target_name, 'out_dim', neck_name, 'out_dim'),
        (neck_name, 'grid', backbone_name, 'grid'),
        (neck_name, 'num_extra_positions', backbone_name, 'num_extra_tokens'),
        (neck_name, 'depth', backbone_name, 'depth'),  # of necks with a block for each of the encoder's
        (target_name, 'mean', preprocessor_name, 'mean'),
        (target_name, 'std', preprocessor_name, 'std'),
    ]:
        size, expected = _size(parts[one], key), _size(parts[other], other_key)
        if None not in (size, expected) and size != expected:
            raise InputError(f'{one}.{key} is {size} and {other}.{other_key} is {expected}: they must be equal.')
    channels, means = _size(model.backbone, 'in_channels'), len(getattr(model.data_preprocessor, 'mean', ()))
    if channels is not None and means not in (0, 1, channels):  # one value stands for all channels
        raise InputError(
            f'{backbone_name}.in_channels is {channels} and {preprocessor_name}.mean has {means} values: give mean and '
            'std one value per channel.'
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
        teacher_init: Of the teacher's weights. 'student': those of the student. 'own': drawn on their own, as in the
            released code of PiLaMIM (unlike its paper).
        micro_batch_size: Images of one forward and backward pass of the student (and forward of the teacher); None:
            the whole batch.
        activation_checkpointing: What the backward pass through the student's blocks recomputes instead of keeping
            it: None: nothing; 'selective': all but matrix products and attention; 'full': everything.
        data_preprocessor: Config.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        backbone: dict,
        branches: Annotated[dict, OptionsOf(Branch, each=True)],
        teacher: Sequence[str] | None = None,
        teacher_init: str = 'student',
        micro_batch_size: Count | None = None,
        activation_checkpointing: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or {'type': 'mmmim.MIMDataPreprocessor'}, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.branches = nn.ModuleDict({name: _branch(name, cfg) for name, cfg in branches.items() if cfg is not None})
        if not self.branches:
            raise InputError('model.branches has no branch, so there is nothing to learn: switch one on.')
        for name, branch in self.branches.items():
            _check_sizes(self, branch, f'model.branches.{name}')
        self.micro_batch_size = micro_batch_size
        check_mode(activation_checkpointing)
        set_checkpointing(self, activation_checkpointing)
        if teacher_init not in ('student', 'own'):
            raise InputError(f"model.teacher_init must be 'student' or 'own', got {teacher_init!r}.")
        self.teacher_init = teacher_init
        source = self
        if teacher and teacher_init == 'own':
            source = MaskedImageModeling(backbone, branches, data_preprocessor=data_preprocessor)
        self.teacher = EMACopy(source, teacher, micro_batch_size) if teacher else None
        #: Blocks of the encoder whose states necks read.
        self.layers = sorted({i for branch in self.branches.values() for i in self._layers(branch)})

    def init_weights(self) -> None:
        """Initialise the student (modules do so when built; ``init_cfg`` may load weights), then copy the teacher."""
        super().init_weights()
        if self.teacher is not None and self.teacher_init == 'student':
            self.teacher.copy_from(self)

    def _layers(self, branch: Branch) -> list[int]:
        """Blocks whose states the neck of a branch reads, counted from 0."""
        return [layer_index(layer, self.backbone.depth) for layer in getattr(branch.neck, 'layers', ())]

    def describe_batch(self, per_gpu_batch: int, images: int) -> str:
        """How a step divides the batch of a GPU, and ``images`` over all GPUs, in words for the log."""
        parts = [f'micro-batches of {min(self.micro_batch_size or per_gpu_batch, per_gpu_batch)}']
        generators = [branch.target_generator for branch in self.branches.values()]
        parts += [g.describe_batch(images) for g in generators if hasattr(g, 'describe_batch')]
        return '; '.join(parts)

    def targets(self, images: Tensor, mask: PatchMask, differentiable: bool) -> dict[str, Target]:
        """Targets of the branches whose generator is ``differentiable`` or of those where it is not.

        Like ``forward`` it is called from outside of the model, where parameters may be sharded.
        """
        return self._targets(images, mask, differentiable)

    def _targets(self, images: Tensor, mask: PatchMask, differentiable: bool) -> dict[str, Target]:
        targets = {
            name: branch.target_generator(images, mask, self.teacher, self.backbone)
            for name, branch in self.branches.items()
            if branch.differentiable == differentiable
        }
        if self.teacher is not None:
            self.teacher.forget()
        return targets

    def loss(self, images: Tensor, mask: PatchMask, targets: dict[str, Target]) -> Losses:
        """Losses of the branches on a (micro-)batch; targets' own losses are not among them."""
        targets = targets | self._targets(images, mask, differentiable=True)
        # Encoders of projects need not keep states.
        context = self.backbone(images, mask, **({'layers': self.layers} if self.layers else {}))
        hidden = dict(zip(self.layers, context.hidden, strict=True))
        losses = {}
        for name, branch in self.branches.items():
            prediction = branch.neck(replace(context, hidden=tuple(hidden[i] for i in self._layers(branch))), mask)
            for key, value in branch.head.loss(prediction, targets[name], context).items():
                losses[_loss_name(name, key)] = branch.weight * value
        return losses

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
    ) -> Context | Losses | list[Losses]:
        """Run the model.

        Args:
            inputs: ``[B, C, H, W]``, normalised.
            mask: What is visible and what is predicted.
            data_samples: Not used; passed by mmengine.
            targets: With ``mode='loss'``: targets made beforehand, of this (micro-)batch.
            mode: 'tensor': the student's context; 'loss': losses of a micro-batch; 'predict': all losses of a batch,
                in a list of one dict as mmengine's evaluators expect.

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
            made = self._targets(inputs, mask, differentiable=False)
            losses = self.loss(inputs, mask, made) | self.own_losses(made)
            return [{**losses, 'loss': torch.stack(list(losses.values())).sum(), 'images': len(inputs)}]
        raise InputError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}.")

    def micro_batches(
        self, images: Tensor, mask: PatchMask, targets: dict[str, Target]
    ) -> Iterator[tuple[bool, float, Tensor, PatchMask, dict[str, Target]]]:
        """Split a batch: whether it is the last, share of the images, images, masks and targets of each micro-batch."""
        size = len(images)
        step = self.micro_batch_size or size
        per_image = mask.num_masks // size
        for start in range(0, size, step):
            stop = min(start + step, size)
            rows = slice(start * per_image, stop * per_image)
            pieces = {
                name: replace(
                    target, patches=target.patches[rows], cls=None if target.cls is None else target.cls[rows]
                )
                for name, target in targets.items()
            }
            yield stop == size, (stop - start) / size, images[start:stop], mask.images(start, stop, size), pieces

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> Losses:
        """One optimiser step; see :func:`train_step`."""
        return train_step(self, self, data, optim_wrapper)


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


def train_step(
    model: nn.Module, algorithm: MaskedImageModeling, data: dict[str, Any], optim_wrapper: OptimWrapper
) -> Losses:
    """One optimiser step on a batch, in micro-batches; nothing in it waits for the device.

    Args:
        model: The algorithm or its data-parallel wrapper, whose ``forward`` synchronises gradients.
        algorithm: The algorithm itself.
        data: Batch of the data loader: ``inputs``, ``mask``.
        optim_wrapper: Steps, and skips the step when gradients are not finite.

    Raises:
        InputError: The optimiser wrapper accumulates gradients over iterations.

    Returns:
        Detached losses of this rank's batch: each, and their sum ``loss`` (RuntimeInfoHook logs means over all ranks);
        and what the optimiser says of its step.
    """
    refuse_accumulation(getattr(optim_wrapper, '_accumulative_counts', 1))
    data = algorithm.data_preprocessor(data, training=True)
    images, mask = data['inputs'], data['mask']
    with optim_wrapper.optim_context(model):
        targets = algorithm.targets(images, mask, differentiable=False)
    log = algorithm.own_losses(targets)
    own = sum(log.values())
    weight = _rank_weight(images)

    for last, share, *piece, piece_targets in algorithm.micro_batches(images, mask, targets):
        sync = nullcontext() if last or not hasattr(model, 'no_sync') else model.no_sync()
        with sync, optim_wrapper.optim_context(model):
            losses = model(*piece, targets=piece_targets, mode='loss')
        # The targets' own losses join the last backward pass, the one whose gradients are synchronised.
        total = sum(losses.values()) * share + (own if last else 0)
        optim_wrapper.backward(total * weight)
        for key, value in losses.items():
            log[key] = log.get(key, 0) + value.detach() * share
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    log = {key: value.detach() for key, value in log.items()}
    return {**log, 'loss': torch.stack(list(log.values())).sum(), **getattr(optim_wrapper, 'step_info', {})}
