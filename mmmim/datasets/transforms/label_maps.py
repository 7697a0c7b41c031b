"""Label maps of segmentation."""

from typing import Any

import numpy as np
from mmcv.image import imresize
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError
from mmmim.utils.names import printable
from mmmim.utils.options import Size

from .decoding import ReadOptions, UnreadableImageError, decode_labels
from .loading import read_file


def resize_label_map(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize labels ``[H, W]`` to ``size`` (height, width): each pixel has the label of the nearest one."""
    return imresize(label_map, size[::-1], interpolation='nearest')


@TRANSFORMS.register_module()
class LoadLabelMap(BaseTransform):
    """Read the label map of an image, as ``mmseg.LoadAnnotations`` does, and look at what it holds.

    Files are opened and limited as by :class:`~mmmim.datasets.transforms.loading.LoadImage`. A label that does not fit
    into 8 bits is refused rather than taken for another one.

    Required Keys:

    - seg_map_path
    - reduce_zero_label (optional): Whether 0 is ignored and labels are counted from 1.
    - label_map (optional): New labels by old ones.
    - seg_fields (optional): ``gt_seg_map`` is added.

    Added Keys:

    - gt_seg_map: Labels ``[H, W]``, uint8.

    Args:
        max_pixels: Most pixels that a label map may have, see :class:`~mmmim.datasets.transforms.loading.LoadImage`.
    """

    def __init__(self, max_pixels: int | None = None) -> None:
        self.options = ReadOptions(max_pixels=max_pixels)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the label map to ``results``.

        Raises:
            InputError: The file cannot be read, or holds colours or labels that are not from 0 to 255.
        """
        path = results['seg_map_path']
        shown = f'The label map {printable(path)}'
        try:
            labels = decode_labels(read_file(path, self.options.max_bytes), path, self.options)
        except UnreadableImageError as error:
            raise InputError(f'{shown} is unreadable: {error}. Repair or remove it.') from None
        if labels.ndim != 2 or labels.dtype.kind == 'f':
            what = 'colours' if labels.ndim != 2 else 'floating-point numbers'
            raise InputError(
                f'{shown} holds {what}, {list(labels.shape)}, not labels: give one label per pixel [H, W].'
            )
        if labels.dtype.itemsize > 1 and labels.size and not 0 <= labels.min() <= labels.max() <= 255:
            raise InputError(
                f'{shown} has labels from {labels.min()} to {labels.max()}, and 8 bits hold 0 to 255: number the '
                'classes anew.'
            )
        labels = labels.astype(np.uint8)
        if results.get('reduce_zero_label'):
            labels -= 1  # 0 becomes 255, which is ignored
            labels[labels == 254] = 255
        if (label_map := results.get('label_map')) is not None:
            old = labels.copy()
            for before, after in label_map.items():
                labels[old == before] = after
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results


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

    def __init__(self, scale: Size) -> None:
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
        """Set ``ori_shape`` to the size of the image."""
        results['ori_shape'] = results['img'].shape[:2]
        return results
