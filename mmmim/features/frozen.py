"""The model of probes: a frozen encoder and no head."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.utils import InputError

from .extraction import LayerFeatures, check_pooling, extract_features


@MODELS.register_module()
class FrozenFeatures(BaseModel):
    """Features of frozen blocks, for probes that are fitted (:class:`mmmim.FitTestLoop`).

    Args:
        backbone: Config of a :class:`PretrainedBackbone`.
        features: 'patches', the tokens of its maps; or one feature of the whole image, as
            :meth:`mmmim.features.Features.pool` names it, of each of the backbone's ``out_indices``.
        data_preprocessor: Config, e.g. of ``mmmim.ImageListPreprocessor``.

    Raises:
        InputError: There is no such feature, or the backbone has options of maps only.
    """

    def __init__(
        self, backbone: dict[str, Any], features: str = 'patches', data_preprocessor: dict[str, Any] | None = None
    ) -> None:
        super().__init__(data_preprocessor)
        if features != 'patches':
            check_pooling(features)
        self.features = features
        self.backbone = MODELS.build(backbone)
        if features != 'patches' and not (self.backbone.final_norm and self.backbone.stride is None):
            raise InputError(
                f'model.backbone.final_norm and stride are of maps, not of the feature {features!r}: leave them out; '
                "'pooled_raw' is the average before the final norm."
            )
        self.requires_grad_(False)

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks whose features are given, counted from 0."""
        return self.backbone.out_indices

    def extract(self, images: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """Features of images as a loader gives them.

        Args:
            images: uint8 ``[3, H, W]`` each.

        Returns:
            Of each layer ``[B, N, D]``, and the grid of the patches; N is 1 and the grid (1, 1) for whole images.

        Raises:
            InputError: The images differ in size, or the encoder has no such feature.
        """
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise InputError(
                f'Probes need images of one size and got {sorted(sizes)}: let the pipeline of the data resize them to '
                'a square (keep_ratio=False).'
            )
        with torch.no_grad():
            inputs = self.data_preprocessor({'inputs': list(images)})['inputs']
            if self.features == 'patches':
                maps = self.backbone(inputs)
                return tuple(m.flatten(2).transpose(1, 2) for m in maps), tuple(maps[0].shape[-2:])
            found = extract_features(self.backbone.backbone, inputs, layers=self.layers)
            return tuple(self._pool(layer) for layer in found), (1, 1)

    def _pool(self, layer: LayerFeatures) -> Tensor:
        pooled = layer.pool(self.features)
        if pooled is None:
            raise InputError(f"The encoder has no feature {self.features!r}: set model.features to 'pooled'.")
        return pooled.unsqueeze(1)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> tuple[Tensor, ...]:
        """Maps of normalised images; there is nothing to train or predict.

        Raises:
            InputError: Another mode is asked for.
        """
        if mode != 'tensor':
            raise InputError("FrozenFeatures has no head: test_cfg.type must be 'mmmim.FitTestLoop'.")
        return self.backbone(inputs)
