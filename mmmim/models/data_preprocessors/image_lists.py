"""Lists of images, stacked and normalised."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import ImgDataPreprocessor

from mmmim.registry import MODELS

from .checks import check_channels


@MODELS.register_module()
class ImageListPreprocessor(ImgDataPreprocessor):
    """``mmengine.ImgDataPreprocessor`` for images of any number of channels.

    Args:
        mean: Mean of every channel, in the range of the images' values.
        std: Standard deviation of every channel, in the range of the images' values.
        bgr_to_rgb: Whether images of three channels come as BGR.
        **kwargs: Further arguments of ``mmengine.ImgDataPreprocessor``.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], bgr_to_rgb: bool = False, **kwargs: Any) -> None:
        super().__init__(mean[:1], std[:1], bgr_to_rgb=bgr_to_rgb and len(mean) == 3, **kwargs)  # it knows 1 and 3
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict | list:
        """As mmengine's.

        Raises:
            InputError: An image has another number of channels than ``mean``.
        """
        for image in data['inputs']:
            check_channels(image, len(self.mean))
        return super().forward(data, training)
