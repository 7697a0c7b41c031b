"""What a frozen encoder that was trained before makes of the predicted patches, as targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.converters.published import find_weights
from mmmim.models.backbones.libraries import ENCODER_FILES, encoder_config
from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.models.data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from mmmim.models.functional import draw_by_importance
from mmmim.models.interfaces import Encoder, Sizes, TargetGenerator, known
from mmmim.models.layers import layer_index
from mmmim.models.teacher import TeacherView, encode_in_pieces
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.options import Count, Positive

from .attention_maps import visit_attention
from .pretrained_backbone import build_encoder, is_wrapped


def _of_channels(patches: Tensor) -> Tensor:
    return F.layer_norm(patches.float(), patches.shape[-1:])


def _of_patches(patches: Tensor) -> Tensor:
    return F.instance_norm(patches.float().transpose(1, 2)).transpose(1, 2)


#: What is done to the tokens of a block, ``[B, N, D]``.
NORMALIZE: dict[str | None, Callable[[Tensor], Tensor]] = {
    'layer': _of_channels,
    'instance': _of_patches,
    None: lambda patches: patches,
}


@MODELS.register_module()
class FrozenTarget(TargetGenerator):
    """What a frozen encoder makes of the predicted patches of whole images: EVA, MILAN, MVP and plain distillation.

    The encoder is any that the toolbox reads. It stays in eval mode and gets no gradients, and it is no part of the
    model: its weights are not in checkpoints, not among those that the optimiser or FSDP2 see, and every process holds
    them whole. Checkpoints hold a fingerprint of them instead, so that a training is not resumed with another teacher.

    The pictures are those of the student. Where the patches have another size, they are resized (bicubic, antialiased)
    so that both have the same grid of patches.

    Args:
        checkpoint: The encoder, in one word: the name of published weights, a checkpoint of mmmim,
            'timm:NAME=FILE', 'mmpretrain:NAME=FILE', 'huggingface:FOLDER'; FILE may be 'random', for tests. With an
            ``encoder`` of another library, its file; 'random' with any.
        in_dim: Width of the targets: that of the encoder's tokens, or of its projection.
        weights: Set of weights of a checkpoint of mmmim: 'ema', 'student', or 'auto': the first where there are both.
        encoder: Config of the encoder, for options that the word does not have, such as ``num_classes=512`` of CLIP in
            timm; None for that of the checkpoint.
        layers: Blocks whose outputs are averaged, negative ones from the end; None for the encoder's output.
        final_norm: Whether the outputs of ``layers`` pass through the encoder's final norm.
        projected: Whether tokens pass through the projection that the encoder has behind its final norm (CLIP).
        normalize: 'layer': every target is layer-normed over its channels without weights (MaskDistill). 'instance':
            every channel over the patches of its image. None: as it is. Of several layers each on its own.
        statistics: Mean and deviation of the encoder's pictures. 'teacher': its own. 'student': those of the student,
            whatever it was trained on, as MILAN and mmpretrain's EVA give pictures to CLIP.
        mean: Mean of every channel, as the data preprocessor of the student has it.
        std: Standard deviation of every channel, as the data preprocessor of the student has it.
        masks: 'importance': in the place of the loader's visible patches as many others, drawn without replacement with
            probabilities proportional to what the CLS token attends to them in the encoder's last block, averaged over
            heads (MILAN); all others are predicted, or all patches where the loader's masks predict all. None: the
            loader's.
        init_cfg: Must stay None; the weights are those of ``checkpoint``.

    Raises:
        InputError: There is no such encoder or file, it does not fit the options, or it is another one than that of the
            training that is resumed.
    """

    scale: Tensor
    shift: Tensor
    fingerprint: Tensor

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        in_dim: Count = 768,
        weights: str = 'auto',
        encoder: dict | None = None,
        layers: Sequence[int] | None = None,
        final_norm: bool = True,
        projected: bool = False,
        normalize: str | None = None,
        statistics: str = 'teacher',
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[Positive] = IMAGENET_STD,
        masks: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, choices in (
            ('normalize', normalize, tuple(NORMALIZE)),
            ('statistics', statistics, ('teacher', 'student')),
            ('masks', masks, ('importance', None)),
        ):
            if value not in choices:
                raise InputError(f'FrozenTarget.{name} must be one of {choices}, got {value!r}.')
        if layers is not None and not len(layers):
            raise InputError("FrozenTarget.layers names no block: give some, or None for the encoder's output.")
        self.checkpoint, self.out_dim, self.blocks, self.final_norm = checkpoint, in_dim, layers, final_norm
        self.projected, self.normalize, self.statistics, self.masks = projected, normalize, statistics, masks
        self._statistics = {'mean': mean, 'std': std}
        mean, std = (torch.tensor(each, device='cpu').tolist() for each in (mean, std))
        #: The encoder, in a tuple, which hides it from the model; none on the meta device, where there are sizes only.
        self._frozen: tuple[Encoder, ...] = ()
        self._seen: tuple[Tensor, Context] | None = None
        found = torch.zeros(4, dtype=torch.int64, device='cpu')
        own = (mean, std)
        if torch.get_default_device().type != 'meta':
            teacher, its = _open(checkpoint, weights, encoder)
            self._frozen = (teacher.requires_grad_(False).eval(),)
            self._check(teacher)
            found = _fingerprint(teacher)
            own = own if its is None or statistics == 'student' else its
        pairs = zip(mean, std, *own, strict=False)
        scale, shift = zip(*((s / to_s, (m - to_m) / to_s) for m, s, to_m, to_s in pairs), strict=True)
        self.same_pictures = not any(shift) and all(value == 1 for value in scale)
        self.register_buffer('scale', torch.tensor(scale).view(-1, 1, 1), False)
        self.register_buffer('shift', torch.tensor(shift).view(-1, 1, 1), False)
        self.register_buffer('fingerprint', found.to(torch.get_default_device()))

    @property
    def teacher(self) -> Encoder:
        """The frozen encoder."""
        return self._frozen[0]

    def sizes(self) -> Sizes:
        """Width of the targets, channels, and the statistics of the data preprocessor where they count."""
        sizes: Sizes = {'prediction width': ('out_dim', self.out_dim)}
        if self._frozen:
            sizes['channels'] = ('in_channels', self.teacher.in_channels)
        if self.statistics == 'teacher':
            sizes |= {name: (name, known(torch.tensor(value))) for name, value in self._statistics.items()}
        return sizes

    def _check(self, teacher: Encoder) -> None:
        """Refuse an encoder that the options do not fit."""
        what = f'The encoder of FrozenTarget.checkpoint={self.checkpoint!r}'
        if self.projected and self._projection(teacher) is None:
            raise InputError(
                f'{what} has no projection: set projected=False, or name it by its config, such as '
                "encoder=dict(type='mmmim.TimmEncoder', name='vit_base_patch16_clip_quickgelu_224', num_classes=512)."
            )
        width = self._projection(teacher).out_features if self.projected else teacher.embed_dim
        if width != self.out_dim:
            raise InputError(
                f'{what} has tokens of width {width} and FrozenTarget.in_dim is {self.out_dim}: they must be equal, '
                'and so must out_dim of the neck.'
            )
        for layer in self.blocks or ():
            layer_index(layer, teacher.depth)
        if self.masks and not teacher.num_cls_tokens:
            raise InputError(f"{what} has no CLS token, whose attention masks='importance' needs: set masks=None.")

    @staticmethod
    def _projection(teacher: Encoder) -> Any:
        return teacher.projection if isinstance(teacher, WrappedEncoder) else None

    def init_weights(self) -> None:
        """Keep the weights that were loaded."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        for teacher in self._frozen:
            teacher._apply(fn)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f'{prefix}fingerprint')
        if isinstance(saved, Tensor) and self._frozen and not torch.equal(saved.cpu(), self.fingerprint.cpu()):
            raise InputError(
                f'{prefix.rstrip(".")}.checkpoint={self.checkpoint!r} is another teacher than that of the training '
                'whose checkpoint is loaded: name that one, wherever it lies now, or begin a new training.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def pictures(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Images of the student ``[B, C, H, W]`` as the encoder sees them, with a ``grid`` of its own patches."""
        size = (grid[0] * self.teacher.patch_size, grid[1] * self.teacher.patch_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images.float(), size, mode='bicubic', align_corners=False, antialias=True)
        return images if self.same_pictures else images * self.scale + self.shift

    def _look(self, images: Tensor, grid: tuple[int, int]) -> tuple[Context, list[Tensor]]:
        """What the encoder makes of a batch; and for masks by importance the patches' weights, pieces of ``[B, N]``."""
        pictures, layers = self.pictures(images, grid), tuple(self.blocks or ())
        if self.masks is None:
            ends = [layer_index(layer, self.teacher.depth) + 1 for layer in layers]
            depth = max(ends, default=None)
            size = self.micro_batch_size
            return encode_in_pieces(self.teacher, pictures, None, size, layers=layers, depth=depth), []
        weights: list[Tensor] = []
        extra = self.teacher.num_extra_tokens

        def visit(_: int, attention: Tensor) -> None:
            weights.append(attention[:, :, 0, extra:].mean(dim=1))

        pieces = pictures.split(self.micro_batch_size or len(pictures))
        contexts = [visit_attention(self.teacher, piece, visit, layers=(-1,), hidden=layers) for piece in pieces]
        return Context.cat(contexts), weights

    @torch.no_grad()
    def mask(self, images: Tensor, mask: PatchMask) -> PatchMask:
        """The loader's masks, or as many patches by importance."""
        if self.masks is None:
            return mask
        number, visible = mask.grid[0] * mask.grid[1], mask.visible.shape[1]
        blocks, predicted = mask.predict.shape[1:]
        if mask.offsets is not None or blocks != 1 or predicted not in (number, number - visible):
            raise InputError(
                "FrozenTarget.masks='importance' needs masks of patches that touch each other, with one block of all "
                "that is hidden, or of all patches: use masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75), or "
                "that inside of dict(type='mmmim.PredictAll', masking=...)."
            )
        context, weights = self._look(images, mask.grid)
        self._seen = (images, context)
        rng = None if self.training else torch.Generator(images.device).manual_seed(0)
        order = draw_by_importance(torch.cat(weights)[mask.image_index], rng)
        rest = order if predicted == number else order[:, visible:]
        return replace(mask, visible=order[:, :visible], predict=rest.unsqueeze(1))

    def _tokens(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """Targets of all patches ``[B, N, K]``, and of the CLS token ``[B, K]`` where there is one."""
        teacher, extra = self.teacher, context.extra.shape[1]
        states = [torch.cat([context.extra, context.visible], dim=1)]
        if self.blocks is not None:
            states = [teacher.normed(state) if self.final_norm else state for state in context.hidden]
        if self.projected:
            states = [self._projection(teacher)(state) for state in states]
        patches = [NORMALIZE[self.normalize](state[:, extra:]) for state in states]
        if not context.num_cls_tokens or self.normalize == 'instance':
            return sum(patches[1:], patches[0]) / len(patches), None
        cls = [NORMALIZE[self.normalize](state[:, 0]) for state in states]
        return sum(patches[1:], patches[0]) / len(patches), sum(cls[1:], cls[0]) / len(cls)

    @torch.no_grad()
    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Not used; every target generator takes it.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, K]`` and, of an encoder with CLS, ``cls [G, K]``; not of targets that are normed over the
            patches.

        Raises:
            InputError: Patches do not touch each other, or the encoder takes no such grid of patches.
        """
        if mask.offsets is not None:
            raise InputError('FrozenTarget needs patches that touch each other: set gap=0 in the collate function.')
        seen, self._seen = self._seen, None
        context = seen[1] if seen is not None and seen[0] is images else self._look(images, mask.grid)[0]
        patches, cls = self._tokens(context)
        return Target(
            patches=gather_patches(patches, mask.flat_predict(), mask.image_index),
            cls=None if cls is None else cls[mask.image_index],
        )


@contextmanager
def _own_numbers() -> Any:
    """Random numbers inside are always the same, and outside as if nothing had been drawn."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(0)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _open(
    checkpoint: str | Path | None, weights: str, encoder: Mapping[str, Any] | None
) -> tuple[Encoder, tuple[Sequence[float], Sequence[float]] | None]:
    """An encoder by its word, and mean and deviation of its pictures; None where nobody says them."""
    if checkpoint is None:
        raise InputError(
            'FrozenTarget.checkpoint is not set: name the teacher, a checkpoint of mmmim, a name of published weights, '
            f'{ENCODER_FILES}.'
        )
    try:
        with _own_numbers():
            file, named = find_weights(checkpoint, foreign=encoder is not None and is_wrapped(encoder))
            if named is not None:
                encoder = encoder_config(named)
            teacher, stored = build_encoder(file, weights, encoder)
    except InputError as error:
        file = str(checkpoint).rpartition('=')[2]
        missing = not file.startswith('random') and not Path(file).expanduser().exists()
        remedy = (
            ' Train the teacher first, as the head of the config says, or name another: --cfg-options '
            'model.branches.NAME.target_generator.checkpoint=FILE.'
        )
        raise InputError(f'FrozenTarget.checkpoint={str(checkpoint)!r}: {error}{remedy if missing else ""}') from error
    if teacher.mean is not None and teacher.std is not None:
        return teacher, (teacher.mean, teacher.std)
    if stored is None:
        return teacher, None
    preprocessor = stored.model.get('data_preprocessor') or {}
    return teacher, (preprocessor.get('mean', IMAGENET_MEAN), preprocessor.get('std', IMAGENET_STD))


def _fingerprint(module: nn.Module) -> Tensor:
    """SHA-256 of names, shapes and values of a module's weights, ``[4]``, int64."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype};'.encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64)
