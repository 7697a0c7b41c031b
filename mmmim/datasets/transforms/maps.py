"""Maps of values: depths, and the surface normals that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError
from mmmim.utils.names import printable
from mmmim.utils.options import NonNegative, Number, Positive, PositiveShare

from .decoding import ReadOptions, UnreadableImageError, decode_labels
from .loading import read_file

#: Focal lengths and centre of the colour camera of NYUv2, in pixels of its images of 480 x 640.
NYU_CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)


def read_map(path: str, kind: str, options: ReadOptions) -> np.ndarray:
    """What the file of a map holds, without any conversion.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return decode_labels(read_file(path, options.max_bytes), path, options)
    except UnreadableImageError as error:
        raise InputError(f'The {kind} {printable(path)} is unreadable: {error}. Repair or remove it.') from None


def read_depth(path: str, unit: float, options: ReadOptions) -> np.ndarray:
    """Depths of a file in metres, ``[H, W]`` float32, NaN where the file has 0.

    Raises:
        InputError: It cannot be read, or holds colours or depths of 8 bits.
    """
    found = read_map(path, 'depth map', options)
    if found.ndim != 2 or found.dtype == np.uint8:
        what = 'colours' if found.ndim != 2 else '8 bits per pixel'
        raise InputError(f'The depth map {printable(path)} holds {what}: give one number of 16 bits per pixel.')
    depth: np.ndarray = found.astype(np.float32) * np.float32(unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Read the depth map of an image.

    Required Keys:

    - depth_map_path: A file of one number per pixel, of 16 bits or floating-point, 0 where the depth is not known.

    Added Keys:

    - gt_map: Depths in metres, ``[H, W, 1]`` float32, NaN where they are not known or beyond ``high``.

    Args:
        unit: Metres that the file counts in: 0.001 for millimetres.
        high: Greatest depth that counts, in metres.
        max_pixels: Most pixels that a map may have, see :class:`~mmmim.datasets.transforms.loading.LoadImage`.
    """

    def __init__(self, unit: Positive = 1e-3, high: Positive = 10.0, max_pixels: int | None = None) -> None:
        self.unit, self.high, self.options = unit, high, ReadOptions(max_pixels=max_pixels)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the depths to ``results``."""
        depth = read_depth(results['depth_map_path'], self.unit, self.options)
        results['gt_map'] = np.where(depth <= self.high, depth, np.float32(np.nan))[..., None]
        return results


@TRANSFORMS.register_module()
class LoadNormals(BaseTransform):
    """Read the surface normals of an image from a file, or compute them from its depth map.

    Required Keys:

    - normal_map_path: With ``source='file'``, an image of 8 bits whose three channels are ``(n + 1) / 2 * 255``; grey
      of 127 or 128 in all channels, and black, where the normal is not known.
    - depth_map_path: With ``source='depth'``, see :class:`LoadDepth`.

    Added Keys:

    - gt_map: Unit normals, ``[H, W, 3]`` float32, NaN where they are not known. Of a file in its own axes; of a depth
      map x to the right, y down and z away from the camera, which the normals look towards.

    Args:
        source: 'depth' or 'file'.
        camera: Focal lengths in x and y and the centre in x and y, in pixels of the depth map.
        radius: Half side of the window whose pixels a plane is fitted to, see :func:`normals_of_depth`.
        residual: Largest relative error of the plane, see :func:`normals_of_depth`.
        unit: Metres that the file of depths counts in.
        high: Greatest depth that counts, in metres.
        max_pixels: Most pixels that a map may have, see :class:`~mmmim.datasets.transforms.loading.LoadImage`.
    """

    def __init__(
        self,
        source: Literal['depth', 'file'] = 'depth',
        camera: tuple[Positive, Positive, Number, Number] = NYU_CAMERA,
        radius: int = 4,
        residual: NonNegative = 0.03,
        unit: Positive = 1e-3,
        high: Positive = 10.0,
        max_pixels: int | None = None,
    ) -> None:
        self.source, self.camera, self.radius, self.residual = source, camera, radius, residual
        self.unit, self.high, self.options = unit, high, ReadOptions(max_pixels=max_pixels)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the normals to ``results``.

        Raises:
            InputError: A file cannot be read or is of another kind.
        """
        if self.source == 'depth':
            depth = read_depth(results['depth_map_path'], self.unit, self.options)
            depth = np.where(depth <= self.high, depth, np.float32(np.nan))
            results['gt_map'] = normals_of_depth(depth, self.camera, self.radius, self.residual)
        else:
            results['gt_map'] = self._of_file(results['normal_map_path'])
        return results

    def _of_file(self, path: str) -> np.ndarray:
        found = read_map(path, 'normal map', self.options)
        if found.ndim != 3 or found.shape[2] < 3 or found.dtype != np.uint8:
            raise InputError(
                f'The normal map {printable(path)} holds {found.dtype} {list(found.shape)}: give three channels of 8 '
                'bits.'
            )
        normals = found[..., :3].astype(np.float32) / 127.5 - 1
        length = np.linalg.norm(normals, axis=2, keepdims=True)
        # Black has a length of 1.73.
        known = (length > 0.5) & (length < 1.5)
        return np.where(known, normals / np.maximum(length, 1e-6), np.float32(np.nan))


def normals_of_depth(
    depth: np.ndarray,
    camera: Sequence[float],
    radius: int = 4,
    residual: float = 0.03,
    known: PositiveShare = 0.5,
) -> np.ndarray:
    """Surface normals from depths: of the plane through the points that a window around a pixel shows.

    A plane is ``n X = d`` for points ``X = z (x, y, 1)`` on the rays ``x = (u - cx) / fx``, ``y = (v - cy) / fy``, and
    so ``1 / z = (n / d) (x, y, 1)``: linear in the coordinates of pixels. The least squares of ``1 / z`` over the
    window give n exactly where the surface is a plane, by sums over windows.

    Args:
        depth: Metres, ``[H, W]``, NaN where they are not known.
        camera: fx, fy, cx and cy in pixels.
        radius: Half side of the window: 4 for 9 x 9 pixels.
        residual: A window whose root mean square error is a greater part of its mean ``1 / z`` shows no surface, but an
            edge: its pixel has no normal.
        known: Share of the window whose depth must be known.

    Returns:
        Unit vectors towards the camera, ``[H, W, 3]`` float32; x to the right, y down, z away from the camera. NaN
        where they are not known.
    """
    fx, fy, cx, cy = camera
    height, width = depth.shape
    valid = np.isfinite(depth)
    weight = valid.astype(np.float64)
    inverse = np.where(valid, 1 / np.where(valid, depth, 1).astype(np.float64), 0)
    side = 2 * radius + 1

    def total(values: np.ndarray) -> np.ndarray:
        """Sums over windows; nothing lies outside the image."""
        return cv2.boxFilter(values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)

    x = np.broadcast_to((np.arange(width) - cx) / fx, depth.shape)
    y = np.broadcast_to(((np.arange(height) - cy) / fy)[:, None], depth.shape)
    number = total(weight)
    safe = np.maximum(number, 1)
    mean_x, mean_y, mean_z = (total(weight * each) / safe for each in (x, y, inverse))

    def covariance(a: np.ndarray, b: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray) -> np.ndarray:
        return total(weight * a * b) / safe - mean_a * mean_b

    xx, yy, xy = (
        covariance(x, x, mean_x, mean_x),
        covariance(y, y, mean_y, mean_y),
        covariance(x, y, mean_x, mean_y),
    )
    xz, yz = covariance(x, inverse, mean_x, mean_z), covariance(y, inverse, mean_y, mean_z)
    zz = covariance(inverse, inverse, mean_z, mean_z)
    determinant = xx * yy - xy * xy
    spread = determinant > 1e-6 * np.maximum(xx * yy, 1e-30)
    divisor = np.where(spread, determinant, 1)
    a, b = (xz * yy - yz * xy) / divisor, (yz * xx - xz * xy) / divisor
    c = mean_z - a * mean_x - b * mean_y
    normals = -np.stack([a, b, c], axis=2)
    length = np.linalg.norm(normals, axis=2)
    error = np.sqrt(np.maximum(zz - a * xz - b * yz, 0))
    good = valid & spread & (number >= known * side**2) & (error <= residual * mean_z) & (length > 0)
    unit = normals / np.where(good, length, 1)[..., None]
    return np.where(good[..., None], unit, np.nan).astype(np.float32)
