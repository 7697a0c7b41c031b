"""The model of probes: a frozen encoder and no head."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.utils import InputError

from .names import FeatureName


@MODELS.register_module()
class FrozenFeatures(BaseModel):
    """Features of frozen blocks, for probes that are fitted (:class:`mmmim.FitTestLoop`).

    Args:
        backbone: Config of a :class:`PretrainedBackbone`, without ``out_type``.
        features: Name of the feature that is read of each of the backbone's ``out_indices``, see
            :meth:`mmmim.features.LayerFeatures.pool`: one of the whole image, 'patches' or 'tokens'.
        data_preprocessor: Config, e.g. of ``mmmim.ImageListPreprocessor``.
        also: Names of features of the same kind that other probes will read of the same images: where ``features`` are
            extracted, these are put into the cache from the same pass through the encoder.

    Raises:
        InputError: There is no such feature, the encoder does not have it, it is of another kind, or options of the
            backbone contradict it.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        features: str = 'patches',
        data_preprocessor: dict[str, Any] | None = None,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__(data_preprocessor)
        self.features = features
        #: All features of a pass, the one that is read first.
        self.names = tuple(dict.fromkeys((features, *also)))
        self.kind = FeatureName.of(features).kind
        if self.kind == 'featmap':
            raise InputError(f"model.features={features!r}: probes read the cells of maps, which are 'patches'.")
        if backbone.get('out_type') is not None:
            raise InputError('model.backbone.out_type: the feature that probes read is set by model.features.')
        if other := [name for name in self.names if FeatureName.of(name).kind != self.kind]:
            raise InputError(f'model.also={other}: what comes from one pass is of one kind, as {features!r} is.')
        # Patches go the way of maps, which may be resized.
        out_type = [name.replace('patches', 'featmap') for name in self.names]
        self.backbone = MODELS.build({**backbone, 'out_type': out_type})
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
            Of each of ``names`` and layers ``[B, N, C]``, the layers of the first name first, and the grid of the
            samples: that of the patches, or one row of all tokens, or (1, 1) for whole images.

        Raises:
            InputError: The images differ in size.
        """
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1:
            raise InputError(
                f'Probes need images of one size and got {sorted(sizes)}: let the pipeline of the data resize them to '
                'a square (keep_ratio=False).'
            )
        with torch.no_grad():
            inputs = self.data_preprocessor({'inputs': list(images)})['inputs']
            found = self.backbone(inputs)
        if self.kind == 'patches':
            return tuple(each.flatten(2).transpose(1, 2) for each in found), tuple(found[0].shape[-2:])
        if self.kind == 'vector':
            found = tuple(each.unsqueeze(1) for each in found)
        return found, (1, found[0].shape[1])

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> tuple[Tensor, ...]:
        """Outputs of the backbone for normalised images; there is nothing to train or predict.

        Raises:
            InputError: Another mode is asked for.
        """
        if mode != 'tensor':
            raise InputError("FrozenFeatures has no head: test_cfg.type must be 'mmmim.FitTestLoop'.")
        return self.backbone(inputs)
