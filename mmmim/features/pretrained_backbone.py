"""A pre-trained encoder as a backbone of mmpretrain or mmsegmentation."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from mmmim.checkpoints import check_state_dict
from mmmim.checkpoints.pretrained import LATER, PLACEHOLDER, RANDOM
from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.models.interfaces import Encoder, check_part
from mmmim.models.layers import block_index, patch_grid
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.nested import under
from mmmim.utils.options import Count, ShareBelowOne

from .stored_encoder import StoredEncoder


def rounded_share(side: Any, patch: int) -> Any:
    """``round(side / patch)`` in whole numbers, which tracing and export follow; halves go to the even neighbour."""
    whole, rest = side // patch, side % patch
    return whole + (2 * rest + patch - 1 + whole % 2) // (2 * patch)


@MODELS.register_module()
class PretrainedBackbone(BaseModule):
    """A pre-trained encoder giving feature maps.

    Maps follow the convention of mmpretrain and mmsegmentation: a tuple of ``[B, D, h, w]``, one per ``out_indices``,
    without registers. Images whose sides the patch size does not divide are resized to the nearest size that it does.

    All weights of the encoder come from ``checkpoint``, or construction fails; mmengine never initialises them. Blocks
    after the last of ``out_indices`` are not computed (but in encoders of mmpretrain). They and what else the maps do
    not depend on (a projector, mask tokens) get no gradients, which data-parallel training would wait for.

    Args:
        checkpoint: Training checkpoint of mmmim or converted file; with an ``encoder`` of another library, its file.
            'random': random weights, with ``encoder``. 'load_from': the weights come with those of the whole model,
            from ``load_from`` of a runner.
        weights: 'ema' (the teacher), 'student', or 'auto': the teacher's where there are any.
        encoder: Config of the encoder: ``mmmim.ViT``, ``mmmim.TimmEncoder``, ``mmmim.MMPretrainEncoder``; None for that
            of the checkpoint.
        out_indices: Blocks whose patch tokens to return, see :func:`block_index`.
        frozen: Whether the encoder stays in eval mode and gets no gradients.
        final_norm: Whether the encoder's final norm is applied to the maps.
        stride: Resize maps (bilinear) to one cell for so many pixels, rounded up, where the encoder has other ones.
        drop_path_rate: Stochastic depth of the last block, from 0 at the first in equal steps (BEiT); None for the
            encoder's own.
        init_cfg: Must stay None; weights come from ``checkpoint``.

    Raises:
        InputError: There is no checkpoint, it does not fit (naming the keys), or there is no block of an index.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        weights: str = 'auto',
        encoder: Mapping[str, Any] | None = None,
        out_indices: Sequence[int | float] = (-1,),
        frozen: bool = False,
        final_norm: bool = True,
        stride: Count | None = None,
        drop_path_rate: ShareBelowOne | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        if init_cfg is not None:
            raise InputError('PretrainedBackbone takes no init_cfg: its weights are those of its checkpoint.')
        self.backbone = _build(checkpoint, weights, encoder, drop_path_rate)
        self.out_indices = tuple(block_index(index, self.backbone.depth) for index in out_indices)
        self.frozen, self.final_norm, self.stride = frozen, final_norm, stride
        self._has_weights = checkpoint != LATER
        self._freeze_unused()
        if frozen:
            self.backbone.requires_grad_(False).eval()

    @property
    def embed_dim(self) -> int:
        """Width D of the encoder's tokens."""
        return self.backbone.embed_dim

    def init_weights(self) -> None:
        """Leave the weights alone: they are the checkpoint's."""

    def train(self, mode: bool = True) -> 'PretrainedBackbone':
        """Set the mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, see :meth:`mmmim.ViT.get_layer_depth`."""
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps ``[B, D, h, w]`` of normalised images ``[B, 3, H, W]``.

        ``torch.export`` can keep the number of images and their sides open. ``torch.jit.trace`` keeps the grid of its
        example: other images must have as many patches, or the trace ends with an error.

        Raises:
            InputError: The weights that ``checkpoint='load_from'`` promised were never loaded.
        """
        if not self._has_weights:
            raise InputError('The encoder has no weights yet: load those of the whole model (load_from) first.')
        height, width = images.shape[-2:]
        patch = self.backbone.patch_size
        fitting = [max(rounded_share(side, patch), 1) * patch for side in (height, width)]
        # A trace keeps what it saw done: it resizes always, to the size that fits the images it is given.
        if torch.jit.is_tracing() or fitting != [height, width]:
            images = F.interpolate(images, fitting, mode='bilinear', align_corners=False)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            context = self.backbone(images, layers=self.out_indices, depth=max(self.out_indices) + 1)
            states = [self.backbone.normed(s) for s in context.hidden] if self.final_norm else context.hidden
            grid = patch_grid(images.shape[-2:], patch)
            extra = context.extra.shape[1]
            maps = [tokens[:, extra:].transpose(1, 2).unflatten(2, grid).contiguous() for tokens in states]
            if self.stride is not None:
                cells = (-(-height // self.stride), -(-width // self.stride))
                if torch.jit.is_tracing() or cells != grid:
                    maps = [F.interpolate(each, cells, mode='bilinear', align_corners=False) for each in maps]
            return tuple(maps)

    def _freeze_unused(self) -> None:
        for part in self.backbone.unread(max(self.out_indices) + 1, self.final_norm):
            part.requires_grad_(False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # Called by torch and by mmengine, whose runner would only log keys that do not fit.
        own = under(state_dict, prefix)
        if own:
            check_state_dict(self, own, f'What is loaded ({prefix}*)')
            self._has_weights = True
        super()._load_from_state_dict(state_dict, prefix, *args)


def _build(
    checkpoint: str | Path | None, weights: str, encoder: Mapping[str, Any] | None, drop_path_rate: float | None
) -> Encoder:
    """The encoder, with its weights."""
    if checkpoint is None or str(checkpoint).startswith(PLACEHOLDER):
        raise InputError(
            'PretrainedBackbone has no checkpoint: give one to the tool (--pretrained FILE) or in the config '
            f"(model.backbone.checkpoint). checkpoint='{RANDOM}' with an encoder asks for random weights."
        )
    stored: StoredEncoder | None = None
    if checkpoint in (RANDOM, LATER):
        if encoder is None:
            raise InputError(f"PretrainedBackbone: checkpoint='{checkpoint}' needs the config of an encoder.")
        if checkpoint == RANDOM:
            print_log(
                'The encoder has RANDOM weights, as asked for: nothing is pre-trained.', 'current', logging.WARNING
            )
        config = {**encoder, 'weights': None} if is_wrapped(encoder) else dict(encoder)
    elif encoder is not None and is_wrapped(encoder):
        if weights != 'auto':
            raise InputError(f'{checkpoint} is of another library and holds one set of weights: leave weights out.')
        config = {**encoder, 'weights': str(checkpoint)}
    else:
        stored = StoredEncoder.of(checkpoint, weights)
        config = dict(encoder or stored.model['backbone'])
    if drop_path_rate is not None:
        config['drop_path_rate'] = drop_path_rate if is_wrapped(config) else (0.0, drop_path_rate)
    backbone = MODELS.build(config) if stored is None else stored.build(config)
    if checkpoint not in (RANDOM, LATER):
        kind = '' if stored is None else f'{weights} '
        print_log(f'Encoder: {config["type"]}, {kind}weights of {checkpoint}.', logger='current')
    return check_part(backbone, Encoder, 'PretrainedBackbone.encoder')


def is_wrapped(encoder: Mapping[str, Any]) -> bool:
    """Whether a config is of an encoder of another library, whose files are that library's.

    Raises:
        InputError: It has no type, or there is none of that name.
    """
    kind = encoder.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind)
    if not isinstance(kind, type):
        raise InputError(
            f'The encoder has type={encoder.get("type")!r}: use mmmim.ViT, mmmim.TimmEncoder or '
            'mmmim.MMPretrainEncoder.'
        )
    return issubclass(kind, WrappedEncoder)
