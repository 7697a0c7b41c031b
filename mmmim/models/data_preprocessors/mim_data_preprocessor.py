"""Moves a batch to the device and normalises its images."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask

#: Per channel, in the 0-255 range, RGB.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@MODELS.register_module()
class MIMDataPreprocessor(BaseDataPreprocessor):
    """Batches of masked image modelling: ``inputs``, ``mask`` and ``data_samples``.

    Args:
        mean: Per channel, in the 0-255 range, RGB (ImageNet's by default).
        std: Per channel, in the 0-255 range, RGB.
        bgr_to_rgb: Whether images come as BGR, as OpenMMLab's loaders give them.
        non_blocking: Whether copies to the device overlap with computation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr_to_rgb: bool = True,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        self.bgr_to_rgb = bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def normalize(self, images: Tensor) -> Tensor:
        """RGB images ``[B, 3, H, W]`` in the 0-255 range to what the model is trained on."""
        return (images.float() - self.mean) / self.std

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs`` uint8 ``[B, 3, H, W]``, optional ``mask`` (:class:`PatchMask`) and ``data_samples``.
            training: Not used.

        Returns:
            The same keys; ``inputs`` float ``[B, 3, H, W]``.
        """
        images = data['inputs'].to(self.device, non_blocking=self._non_blocking)
        if self.bgr_to_rgb:
            images = images.flip(1)
        mask = data.get('mask')
        if isinstance(mask, PatchMask):
            mask = mask.to(self.device, non_blocking=self._non_blocking)
        return {**data, 'inputs': self.normalize(images), 'mask': mask}
