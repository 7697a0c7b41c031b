"""Random crops of large JPEG files, of which no more pixels are decoded than the result needs."""

from typing import Any

import numpy as np

from mmmim.registry import TRANSFORMS

from .crop import RandomResizedCrop
from .jpeg import FACTORS, decode_jpeg, jpeg_header
from .loading import LoadImage, read_file


@TRANSFORMS.register_module()
class LoadReducedCrop(RandomResizedCrop):
    """``mmmim.LoadImage`` and ``mmmim.RandomResizedCrop`` in one: the crop is drawn before the image is decoded.

    It draws the crops of the two transforms. A JPEG file is decoded at a half, a quarter or an eighth of its sides, by
    a smaller inverse DCT (OpenCV's, of libjpeg-turbo), where the crop then still has as many pixels as the result in
    height and width. **The pixels are others** than those of the two transforms: details near the limit of the
    resolution are a little softer or sharper, and the crop is rounded to pixels of the reduced image, that is, moves by
    less than one pixel of the result. Everything else is read as by the two transforms: other formats, files that are
    to be turned, are damaged or too small to be reduced, and images in memory.

    Required Keys:

    - img_path, img (optional), img_bytes (optional, removed): as of ``mmmim.LoadImage``.
    - gt_seg_map (optional): Labels ``[H, W]`` of the image as it is stored.

    Added Keys:

    - img: ``[*scale, 3]``, BGR.
    - img_shape: ``scale``.
    - ori_shape: ``(H, W)`` of the file.

    Args:
        scale: Height and width of the result; an int for both.
        interpolation: ``bicubic`` or ``bilinear``.
        load: Options of ``mmmim.LoadImage``, such as ``dict(max_pixels=10_000_000)``.
        **kwargs: Further arguments of ``mmmim.RandomResizedCrop``.

    Raises:
        InputError: If there is no such interpolation, or an option of ``load`` has no meaning.
    """

    def __init__(self, scale: Any, interpolation: str = 'bicubic', load: dict | None = None, **kwargs: Any) -> None:
        super().__init__(scale, interpolation, **kwargs)
        self.load = LoadImage(**(load or {}))

    def transform(self, results: dict) -> dict:
        """Add the crop to ``results``.

        Raises:
            UnreadableImageError: If the image cannot be decoded in full.
        """
        reduced = self._reduced(results)
        if reduced is None:
            return super().transform(self.load.transform(results))
        del results['img_bytes']
        return self.resize(results, *reduced)

    def _reduced(self, results: dict) -> tuple[np.ndarray, tuple[int, int, int, int]] | None:
        """Pixels of a crop of a reduced image, and its place in the file; None where the image is not reduced."""
        options = self.load.options
        if 'img' in results or self.load.decoder != 'auto' or options.channels != 3:
            return None
        data = results.get('img_bytes')
        if data is None:  # which LoadImage would read, too
            data = results['img_bytes'] = read_file(results['img_path'], options.max_bytes)
        header = jpeg_header(data, options.limit)
        if header is None or self._factor(header.height, header.width) == 1:
            return None
        state = np.random.get_state()  # noqa: NPY002
        box = top, left, height, width = self.rand_crop_params(
            np.broadcast_to(np.uint8(0), (header.height, header.width))
        )
        factor = self._factor(height, width)
        image = decode_jpeg(data, factor=factor, header=header) if factor > 1 else None
        if image is None:
            np.random.set_state(state)  # noqa: NPY002 - the same crop is drawn again, or none if the file is unreadable
            return None
        rows, columns = (
            slice(round(start / factor), round((start + length) / factor))
            for start, length in ((top, height), (left, width))
        )
        results['ori_shape'] = (header.height, header.width)
        return image[rows, columns], box

    def _factor(self, height: int, width: int) -> int:
        """The largest factor by which sides can be divided without falling below those of the result."""
        return next((f for f in FACTORS if height >= f * self.scale[0] and width >= f * self.scale[1]), 1)
