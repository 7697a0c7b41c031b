"""Label maps of segmentation."""

from typing import Any

import numpy as np
from mmcv.image import imresize
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS


def resize_label_map(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize labels ``[H, W]`` to ``size`` (height, width): each pixel has the label of the nearest one."""
    return imresize(label_map, size[::-1], interpolation='nearest')


@TRANSFORMS.register_module()
class ResizeLabelMap(BaseTransform):
    """Resize the label map and leave the image: predictions are compared at another size than that of the input.

    Required Keys:

    - gt_seg_map: ``[H, W]``.

    Modified Keys:

    - gt_seg_map: ``[*scale]``.

    Args:
        scale: Height and width of the result; an int for both.
    """

    def __init__(self, scale: int | tuple[int, int]) -> None:
        self.scale = (scale, scale) if isinstance(scale, int) else scale

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize the label map of ``results``."""
        results['gt_seg_map'] = resize_label_map(results['gt_seg_map'], self.scale)
        return results


@TRANSFORMS.register_module()
class ForgetOriginalSize(BaseTransform):
    """Make the present size of the image its original one.

    mmsegmentation resizes its predictions to ``ori_shape``. A protocol that scores resized images needs them, and the
    label maps, as they are.

    Required Keys:

    - img

    Modified Keys:

    - ori_shape
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``ori_shape``."""
        results['ori_shape'] = results['img'].shape[:2]
        return results
