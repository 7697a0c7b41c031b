"""The model of evaluations without labels: a frozen encoder that looks at one image at a time, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Size

from .attention_maps import PROJECTIONS, projection, visit_attention
from .extraction import extract_features
from .pretrained_backbone import rounded_share

#: What can be read of the patches of a block.
READINGS = ('patches', *PROJECTIONS, 'cls_attention', 'mean_attention')


@dataclass
class PatchReading:
    """What was read of the patches of an image.

    Attributes:
        values: One vector of each patch, ``[N, C]`` fp32; of attention C is the number of heads.
        grid: Rows and columns of patches, ``(h, w)``.
        cell: Height and width of a patch in pixels of the image as it was given.
        size: Height and width of that image. The last patches may leave it.
    """

    values: np.ndarray
    grid: tuple[int, int]
    cell: tuple[float, float]
    size: tuple[int, int]


@MODELS.register_module()
class FrozenPatches(BaseModel):
    """Patches of one block of a frozen encoder, for :class:`mmmim.LabelFreeTestLoop`.

    Args:
        backbone: Config of a :class:`PretrainedBackbone` with one of ``out_indices``, the block.
        resize: Shorter side that images are brought to (bicubic, antialiased), or height and width; None: as they are.
        fit: What happens to images whose sides the patch size does not divide: 'pad' adds zeros to the normalised image
            at the right and at the bottom, 'round' resizes it to the nearest size that it does.
        data_preprocessor: Config, e.g. of ``mmmim.ImageListPreprocessor``.

    Raises:
        InputError: There are several blocks.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        resize: Size | None = None,
        fit: Literal['pad', 'round'] = 'pad',
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build({**backbone, 'out_type': 'featmap'})
        if len(self.backbone.out_indices) != 1:
            raise InputError(
                f'model.backbone.out_indices={list(self.backbone.out_indices)}: mmmim.FrozenPatches reads one block.'
            )
        self.resize, self.fit = resize, fit
        self.requires_grad_(False)

    @property
    def block(self) -> int:
        """The block that is read, counted from 0."""
        return self.backbone.out_indices[0]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.backbone.backbone.patch_size

    def check(self, reading: str) -> None:
        """Refuse what the encoder does not have, before anything is computed.

        Raises:
            InputError: Naming what it has.
        """
        if reading == 'cls_attention' and not self.backbone.backbone.num_cls_tokens:
            raise InputError(
                'The encoder has no CLS token whose attention could be looked at: take the mean of the attention of '
                "all patches, test_cfg.probe.attention='mean'."
            )

    @torch.no_grad()
    def read(self, image: Tensor, reading: str) -> PatchReading:
        """Read the patches of an image.

        Args:
            image: Pixels as a loader gives them, uint8 ``[C, H, W]``.
            reading: What to read. 'patches': tokens after the final norm. 'queries', 'keys', 'values': see
                :func:`mmmim.features.attention_maps.projection`. 'cls_attention': softmax attention of CLS, the mean
                over several, to the patches, of every head. 'mean_attention': that of all patches, their mean.

        Raises:
            InputError: There is no such reading, or the encoder takes no images of this size.
        """
        seen = self._resized(image)
        inputs = self._fitted(self.data_preprocessor({'inputs': [seen]})['inputs'])
        encoder = self.backbone.backbone
        grid = tuple(side // self.patch_size for side in inputs.shape[-2:])
        extra = encoder.num_extra_tokens
        if reading == 'patches':
            values = extract_features(encoder, inputs, None, [self.block], self.backbone.final_norm).patches[0][0]
        elif reading in PROJECTIONS:
            values = projection(encoder, inputs, reading, self.block)[0, extra:]
        elif reading in READINGS:
            found: list[Tensor] = []
            asking = slice(encoder.num_cls_tokens) if reading == 'cls_attention' else slice(extra, None)
            visit_attention(
                encoder, inputs, lambda _, maps: found.append(maps[0, :, asking, extra:].mean(dim=1)), [self.block]
            )
            values = found[0].T
        else:
            raise InputError(f'There is no reading {reading!r} of patches: use one of {", ".join(READINGS)}.')
        # Padding covers nothing of the image.
        shown = inputs.shape[-2:] if self.fit == 'round' else seen.shape[-2:]
        high, wide = (self.patch_size * side / now for side, now in zip(image.shape[-2:], shown, strict=True))
        return PatchReading(values.float().cpu().numpy(), (grid[0], grid[1]), (high, wide), tuple(image.shape[-2:]))

    def _resized(self, image: Tensor) -> Tensor:
        """An image at the size that is asked for; 8 bits stay 8 bits."""
        if self.resize is None:
            return image
        sides = image.shape[-2:]
        if isinstance(self.resize, int):
            scale = self.resize / min(sides)
            size = [max(self.resize, round(side * scale)) for side in sides]
        else:
            size = list(self.resize)
        resized = F.interpolate(image[None].float(), size, mode='bicubic', antialias=True)[0]
        return resized.round().clamp(0, 255).to(image.dtype) if image.dtype == torch.uint8 else resized

    def _fitted(self, inputs: Tensor) -> Tensor:
        """Normalised images ``[1, C, H, W]`` of a size that the patch size divides."""
        patch = self.patch_size
        height, width = inputs.shape[-2:]
        if self.fit == 'pad':
            return F.pad(inputs, (0, -width % patch, 0, -height % patch))
        size = [max(1, rounded_share(side, patch)) * patch for side in (height, width)]
        if size == [height, width]:
            return inputs
        return F.interpolate(inputs, size, mode='bilinear', align_corners=False)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> tuple[Tensor, ...]:
        """Outputs of the backbone for normalised images; there is nothing to train or predict.

        Raises:
            InputError: Another mode is asked for.
        """
        if mode != 'tensor':
            raise InputError("FrozenPatches has no head: test_cfg.type must be 'mmmim.LabelFreeTestLoop'.")
        return self.backbone(inputs)
