"""Crops."""

from typing import Any

import cv2
import numpy as np
import torch
from mmpretrain.datasets import RandomResizedCrop as _RandomResizedCrop
from torch.nn import functional as F

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError

from .label_maps import resize_label_map


@TRANSFORMS.register_module()
class RandomResizedCrop(_RandomResizedCrop):
    """``mmpretrain.RandomResizedCrop`` with ``backend='pillow'``, several times faster.

    It draws the same crops. They are resized by torch's kernel for 8-bit images, which is antialiased and computes what
    Pillow computes up to rounding: pixels differ by at most 2 grey levels.

    Required Keys:

    - img: ``[H, W, 3]`` uint8.
    - gt_seg_map (optional): Labels ``[H, W]``. The crop of them is that of the image, resized by nearest neighbours.

    Modified Keys:

    - img: ``[*scale, 3]`` uint8. The memory order is that of ``[3, H, W]``, which packing then need not copy.
    - img_shape
    - gt_seg_map (optional): ``[*scale]``.

    Args:
        scale: Height and width of the result; an int for both.
        interpolation: ``bicubic`` or ``bilinear``.
        **kwargs: Of ``mmpretrain.RandomResizedCrop``: ``crop_ratio_range``, ``aspect_ratio_range``, ``max_attempts``.

    Raises:
        InputError: If there is no such interpolation.
    """

    def __init__(self, scale: Any, interpolation: str = 'bicubic', **kwargs: Any) -> None:
        if interpolation not in ('bicubic', 'bilinear'):
            raise InputError(
                f'mmmim.RandomResizedCrop has no interpolation {interpolation!r}: give bicubic or bilinear'
            )
        super().__init__(scale, interpolation=interpolation, backend='pillow', **kwargs)

    def transform(self, results: dict) -> dict:
        """Crop and resize the image of ``results``, and its label map where it has one."""
        image = results['img']
        top, left, height, width = self.rand_crop_params(image)
        # A copy in torch's channels-last layout, stride of the batch included: its kernel is slower on anything else.
        crop = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
        resized = F.interpolate(
            crop.view(1, height, width, 3).permute(0, 3, 1, 2),
            tuple(self.scale),
            mode=self.interpolation,
            align_corners=False,
            antialias=True,
        )
        planes: np.ndarray = np.empty((3, *self.scale), np.uint8)
        cv2.split(resized[0].permute(1, 2, 0).numpy(), list(planes))
        results['img'] = planes.transpose(1, 2, 0)
        results['img_shape'] = tuple(self.scale)
        if 'gt_seg_map' in results:
            labels = results['gt_seg_map'][top : top + height, left : left + width]
            results['gt_seg_map'] = resize_label_map(labels, tuple(self.scale))
        return results
