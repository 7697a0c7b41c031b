"""Moves a batch to the device and normalises its images."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.options import Positive

from ..interfaces import Sizes, known
from ..layers import ExactBuffers
from .checks import check_channels, check_scale

#: Per channel, in the 0-255 range, RGB.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def swap_red_and_blue(images: Tensor) -> Tensor:
    """BGR images ``[..., 3, H, W]`` as RGB; channels of any other number keep their order."""
    return images.flip(-3) if images.shape[-3] == 3 else images


@MODELS.register_module()
class MIMDataPreprocessor(ExactBuffers, BaseDataPreprocessor):
    """Batches of masked image modelling: ``inputs``, ``mask`` and ``data_samples``.

    Args:
        mean: Mean of every channel, in the range of the images' values, 0-255 unless they have more bits, RGB
            (ImageNet's by default). One value stands for all channels.
        std: Standard deviation of every channel, in the range of the images' values, RGB (ImageNet's by default).
        bgr_to_rgb: Whether images come as BGR, as OpenMMLab's loaders give them. Images of another number of channels
            than three keep their order.
        window: How files of more than eight bits were read for the training, ``window`` of
            :class:`mmmim.datasets.LoadImage`; tools and features read files for the model in the same way.
        non_blocking: Whether copies to the device overlap with computation.

    Raises:
        InputError: ``mean`` and ``std`` have different lengths, or a deviation is not above 0.
    """

    mean: Tensor
    std: Tensor
    exact = ('mean', 'std')

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[Positive] = IMAGENET_STD,
        bgr_to_rgb: bool = True,
        window: Any = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        self.window = window
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise InputError(
                f'model.data_preprocessor.mean={list(mean)} and std={list(std)}: give both one value per channel, and '
                'deviations above 0.'
            )
        self.bgr_to_rgb = bgr_to_rgb
        self._scale_is_known = False
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def rgb(self, images: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` as the pipeline gives them, in the order of ``mean``: RGB where they come as BGR."""
        return swap_red_and_blue(images) if self.bgr_to_rgb else images

    def sizes(self) -> Sizes:
        """The statistics, which target generators that undo the normalisation must have too."""
        return {'mean': ('mean', known(self.mean)), 'std': ('std', known(self.std))}

    def normalize(self, images: Tensor) -> Tensor:
        """RGB images ``[B, C, H, W]`` in the range of ``mean`` to what the model is trained on.

        Raises:
            InputError: The images have another number of channels than ``mean``.
        """
        check_channels(images, len(self.mean))
        return (images.float() - self.mean) / self.std

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs`` uint8 ``[B, C, H, W]``, optional ``mask`` (:class:`PatchMask`), ``data_samples`` and
                ``second``, other pictures of the same crops.
            training: Not used; mmengine passes it.

        Returns:
            The same keys; ``inputs`` and ``second`` float ``[B, C, H, W]``.

        Raises:
            InputError: The images have another number of channels than ``mean``, or those of the first batch are of
                another scale, such as normalised already.
        """
        images = self.rgb(data['inputs'])
        check_channels(images, len(self.mean))
        if not self._scale_is_known:  # of the first batch only, on the host
            self._scale_is_known = True
            check_scale(images, self.mean, self.std)
        images = images.to(self.device, non_blocking=self._non_blocking)
        mask = data.get('mask')
        if isinstance(mask, PatchMask):
            mask = mask.to(self.device, non_blocking=self._non_blocking)
        prepared = {**data, 'inputs': self.normalize(images), 'mask': mask}
        if (second := data.get('second')) is not None:
            second = self.rgb(second).to(self.device, non_blocking=self._non_blocking)
            prepared['second'] = self.normalize(second)
        return prepared
