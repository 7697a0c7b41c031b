"""Random crops that are resized by a kernel for 8-bit images."""

import math
from typing import Any

import cv2
import numpy as np
import torch
from mmpretrain.datasets import RandomResizedCrop as _RandomResizedCrop
from torch.nn import functional as F

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError

from .label_maps import resize_label_map


def _type(image: np.ndarray) -> Any:
    """What torch resizes: 8 bits, or floating-point numbers."""
    return np.uint8 if image.dtype == np.uint8 else np.float32


@TRANSFORMS.register_module()
class RandomResizedCrop(_RandomResizedCrop):
    """``mmpretrain.RandomResizedCrop`` with ``backend='pillow'``, several times faster.

    It draws the same crops. They are resized by torch's kernel for 8-bit images, which is antialiased and computes what
    Pillow computes up to rounding: pixels differ by at most 2 grey levels. Images of any number C of channels are
    taken; values of other types than uint8 become float32, and may leave their range a little at edges.

    Required Keys:

    - img: ``[H, W, C]`` or ``[H, W]``.
    - gt_seg_map (optional): Labels ``[H, W]``. The crop of them is that of the image, resized by nearest neighbours.

    Modified Keys:

    - img: ``[*scale, C]`` or ``[*scale]``. The memory order is that of ``[C, H, W]``, which packing then need not copy.
    - img_shape
    - gt_seg_map (optional): ``[*scale]``.

    Args:
        scale: Height and width of the result; an int for both.
        interpolation: ``bicubic`` or ``bilinear``.
        **kwargs: Further arguments of ``mmpretrain.RandomResizedCrop``: ``crop_ratio_range``, ``aspect_ratio_range``,
            ``max_attempts``.

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
        box = top, left, height, width = self.rand_crop_params(image)
        return self.resize(results, image[top : top + height, left : left + width], box)

    def resize(self, results: dict, crop: np.ndarray, box: tuple[int, int, int, int]) -> dict:
        """Set the image of ``results`` to a crop of it, resized, and cut out the same of its label map.

        Args:
            results: What the transform was given.
            crop: Pixels ``[h, w, C]`` or ``[h, w]``.
            box: Top, left, height and width of the crop in the label map.
        """
        # A copy in torch's channels-last layout, stride of the batch included: its kernel is slower on anything else.
        pixels = torch.from_numpy(np.ascontiguousarray(crop, dtype=_type(crop)))
        channels = 1 if crop.ndim == 2 else crop.shape[2]
        resized = F.interpolate(
            pixels.view(1, *crop.shape[:2], channels).permute(0, 3, 1, 2),
            tuple(self.scale),
            mode=self.interpolation,
            align_corners=False,
            antialias=True,
        )
        planes: np.ndarray = np.empty((channels, *self.scale), _type(crop))
        cv2.split(resized[0].permute(1, 2, 0).numpy(), list(planes))
        results['img'] = planes[0] if crop.ndim == 2 else planes.transpose(1, 2, 0)
        results['img_shape'] = tuple(self.scale)
        if 'gt_seg_map' in results:
            top, left, height, width = box
            labels = results['gt_seg_map'][top : top + height, left : left + width]
            results['gt_seg_map'] = resize_label_map(labels, tuple(self.scale))
        return results


@TRANSFORMS.register_module()
class MAERandomResizedCrop(RandomResizedCrop):
    """The crop of MAE's linear probe (arXiv 2111.06377, appendix A.1): one draw of an area and an aspect ratio.

    Where ``mmmim.RandomResizedCrop`` draws again if the crop leaves the image, and takes the centre after ten attempts,
    this one cuts each side to that of the image. It draws from torch's generator, in the order of MAE's code.

    Args:
        scale: Height and width of the result; an int for both.
        interpolation: ``bicubic`` or ``bilinear``.
        **kwargs: ``crop_ratio_range`` and ``aspect_ratio_range`` of ``mmpretrain.RandomResizedCrop``.

    Raises:
        InputError: If there is no such interpolation.
    """

    def rand_crop_params(self, img: np.ndarray) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop of an image ``[H, W, ...]``."""
        rows, columns = img.shape[:2]
        area = rows * columns * torch.empty(1).uniform_(*self.crop_ratio_range).item()
        low, high = torch.log(torch.tensor(self.aspect_ratio_range)).tolist()
        aspect = torch.empty(1).uniform_(low, high).exp().item()
        width = min(round(math.sqrt(area * aspect)), columns)
        height = min(round(math.sqrt(area / aspect)), rows)
        top = int(torch.randint(0, rows - height + 1, (1,)))
        left = int(torch.randint(0, columns - width + 1, (1,)))
        return top, left, height, width
