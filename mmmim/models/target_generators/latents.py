"""Latents of an encoder as targets."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.options import Count, Natural, check_choice

from ..interfaces import Encoder, Sizes, TargetGenerator, check_part
from ..layers import StateMean
from ..teacher import TeacherView
from .pixels import patch_statistics


def _state_mean(
    layers: Sequence[int] | None, depth: int | None, state: str | None, normalize: str | None, global_target: str | None
) -> StateMean | None:
    """What is averaged.

    Raises:
        InputError: Options that contradict each other.
    """
    check_choice('LatentTarget.global_target', global_target, ('mean', None))
    if layers is None:
        options = {'state': state, 'normalize_layers': normalize, 'global_target': global_target}
        if given := [name for name, value in options.items() if value is not None]:
            raise InputError(f'LatentTarget.{given[0]} is of a mean of blocks: set layers, or leave it out.')
        return None
    if not layers or depth is not None:
        raise InputError('LatentTarget.layers must have a block at least, and depth=None: blocks after it are not run.')
    return StateMean.of(layers, state or 'block', normalize)


@MODELS.register_module()
class LatentTarget(TargetGenerator):
    """What an encoder makes of the predicted patches: I-JEPA, PiLaMIM, data2vec, Latent MIM and its variants.

    Where the encoder that makes the targets has CLS tokens and sees all patches, the first of them is the target of the
    global token. With ``layers`` targets are made of several blocks instead (data2vec): every state is normalised,
    their mean taken, and that normalised as ``normalize`` says.

    Args:
        in_dim: Width D of the encoder's output.
        encoder: 'teacher': the EMA of the student. 'student': the student itself. A config: an encoder of its own,
            trained with the student.
        stop_gradient: Whether targets are constants for the student; the teacher's always are. False lets gradients
            into the encoder: the naive Latent MIM with 'student', its stand-alone target encoder with a config.
        sees: 'all': the encoder sees all patches (I-JEPA). 'predicted': the predicted patches only, so that targets
            know nothing of what is visible (Latent MIM).
        depth: How many blocks of the encoder to run before its final norm; None for all.
        layers: Blocks whose states are averaged in the place of the encoder's output, negative ones from the end
            (data2vec, arXiv 2202.03555); None for its output.
        state: What of a block, with ``layers``: 'block', its output; 'mlp', what its second residual branch adds.
        normalize_layers: How each state is normalised without weights before the mean: 'layer', over the channels of a
            patch; 'instance', over the patches of an image; None: as it is.
        global_target: Target of the global token with ``layers``: 'mean', that of the targets of all patches (data2vec
            2.0, arXiv 2212.07525); None for none.
        normalize: 'layer': every target is layer-normed without weights (I-JEPA). 'standard': its mean is subtracted
            and it is divided by the root of its unbiased variance plus 1e-6 (normalised pixels, of latents). None: as
            it is.
        aligned: Whether the target of a patch is the latent of that patch. False, the released code of PiLaMIM: that
            of the patch in its place in a random order of the image's patches (its targets are never put back in order;
            the paper's equation 4 has no such thing).
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: An option has none of these values.
    """

    def __init__(
        self,
        in_dim: Count,
        encoder: str | dict = 'teacher',
        stop_gradient: bool = True,
        sees: str = 'all',
        depth: Natural | None = None,
        normalize: str | None = None,
        aligned: bool = True,
        layers: Sequence[int] | None = None,
        state: str | None = None,
        normalize_layers: str | None = None,
        global_target: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, known in (
            ('encoder', encoder if isinstance(encoder, str) else 'teacher', ('teacher', 'student')),
            ('sees', sees, ('all', 'predicted')),
            ('normalize', normalize, ('layer', 'standard', None)),
        ):
            if value not in known:
                raise InputError(f'LatentTarget.{name} must be one of {known}, got {value!r}.')
        if encoder == 'teacher' and not stop_gradient:
            raise InputError("LatentTarget: a teacher gets no gradients: set stop_gradient=True or encoder='student'.")
        self.out_dim = in_dim
        self.source = encoder if isinstance(encoder, str) else 'own'
        self.encoder: Encoder | None = None
        if not isinstance(encoder, str):
            self.encoder = check_part(MODELS.build(encoder), Encoder, 'LatentTarget.encoder')
            if self.encoder.embed_dim != in_dim:
                raise InputError(
                    f'LatentTarget.in_dim is {in_dim} and its encoder.embed_dim is {self.encoder.embed_dim}: they must '
                    'be equal.'
                )
        #: Targets with gradients are made with every micro-batch.
        self.differentiable = not stop_gradient
        if not aligned and sees != 'all':
            raise InputError("LatentTarget: aligned=False draws from all patches: set sees='all'.")
        self.sees, self.depth, self.normalize, self.aligned = sees, depth, normalize, aligned
        self.mean = _state_mean(layers, depth, state, normalize_layers, global_target)
        self.global_target = global_target
        #: Those of an encoder of its own are its own matter.
        self.layers = () if self.mean is None or self.encoder is not None else self.mean.layers
        if self.mean is not None and self.encoder is not None:
            self.mean.blocks(self.encoder.depth)  # refuses those that there are not

    def sizes(self) -> Sizes:
        """Width of the targets, and of the student's output or patches of an encoder of its own."""
        if self.encoder is None:
            own = {'width': ('in_dim', self.out_dim)}
        else:
            own = {'patch size': ('patch_size', self.encoder.patch_size)}
        return {**own, 'prediction width': ('out_dim', self.out_dim)}

    @staticmethod
    def draw_order(num_masks: int, num_patches: int, device: torch.device) -> Tensor:
        """Random orders of the patches, ``[G, N]``, for targets that are not aligned."""
        return torch.rand(num_masks, num_patches, device=device).argsort(dim=1)

    def normalized(self, latents: Tensor) -> Tensor:
        """Latents ``[..., D]`` as ``normalize`` says, in fp32 where it says something."""
        if self.normalize == 'layer':
            return F.layer_norm(latents.float(), latents.shape[-1:])
        if self.normalize == 'standard':
            mean, std = patch_statistics(latents.float())
            return (latents.float() - mean) / std
        return latents

    def _encode(
        self, images: Tensor, mask: PatchMask | None, teacher: TeacherView | None, backbone: Encoder
    ) -> Context:
        encoder = self.encoder or backbone
        options: dict[str, Any] = {'depth': self.depth}
        if self.mean is not None:
            if not encoder.takes_mean:
                raise InputError(
                    f'LatentTarget.layers: {type(encoder).__name__} has no mean of the states of blocks: use a '
                    'mmmim.ViT, or leave layers out.'
                )
            options = {'depth': max(self.mean.blocks(encoder.depth)) + 1, 'mean': self.mean}
        if self.source != 'teacher':
            with nullcontext() if self.differentiable else torch.no_grad():
                return encoder(images, mask, **options)
        if teacher is None:
            raise InputError("LatentTarget needs a teacher: set model.teacher=['backbone'].")
        return teacher.encode(mask, **options)

    def _patches(self, context: Context) -> Tensor:
        """Latents of all patches ``[G, V, D]`` that targets are made of."""
        return context.visible if context.mean is None else context.mean

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: The EMA of the student looking at the images, where it is the encoder.
            backbone: The student, where it is the encoder.

        Returns:
            ``patches [G, T*M, D]`` and, if there is one, ``cls [G, D]``.

        Raises:
            InputError: There is no teacher.
        """
        index = mask.flat_predict()
        if self.sees == 'predicted':
            patches = self.normalized(self._patches(self._encode(images, mask.of_predicted, teacher, backbone)))
            return Target(patches=patches, cls=patches.mean(dim=1) if self.global_target else None)
        if not self.aligned:
            index = self.draw_order(mask.num_masks, mask.grid[0] * mask.grid[1], images.device).gather(1, index)
        # Without offsets an image is encoded once however many masks it has.
        context = self._encode(images, None if mask.offsets is None else mask.of_all, teacher, backbone)
        rows = mask.image_index if mask.offsets is None else None
        if self.mean is not None:
            every = self.normalized(self._patches(context))
            summary = every.mean(dim=1) if self.global_target else None
            if summary is not None and rows is not None:
                summary = summary[rows]
            return Target(patches=gather_patches(every, index, rows), cls=summary)
        patches = self.normalized(gather_patches(context.visible, index, rows))
        if not context.num_cls_tokens:
            return Target(patches=patches)
        cls = context.cls[:, 0] if rows is None else context.cls[rows, 0]
        return Target(patches=patches, cls=self.normalized(cls))
