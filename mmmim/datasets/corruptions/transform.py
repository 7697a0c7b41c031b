"""A corruption as a transform of a pipeline."""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils.options import Seed

from .kinds import check_corruption, corrupt


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupt images as ImageNet-C does (Hendrycks and Dietterich 2019, arXiv 1903.12261).

    What is random depends on the seed, the corruption, the severity and the image alone, by the names of its file and
    folder or, of images in memory, its index: not on the order, the number of workers or where the data lie.

    Required Keys:

    - img: BGR, ``[H, W, 3]`` uint8.
    - img_path or sample_idx

    Modified Keys:

    - img

    Args:
        name: A name of :data:`mmmim.datasets.corruptions.NAMES`; None: images stay as they are, until
            :class:`mmmim.CorruptionsTestLoop` says otherwise.
        severity: A number from 1 to 5.
        seed: Seed of everything random.

    Raises:
        InputError: There is no such corruption or severity.
    """

    def __init__(self, name: str | None = None, severity: int = 1, seed: Seed = 0) -> None:
        self.seed = seed
        self.set(name, severity)

    def set(self, name: str | None, severity: int = 1) -> None:
        """Change the corruption.

        Raises:
            InputError: There is no such corruption or severity.
        """
        if name is not None:
            check_corruption(name, severity)
        self.name, self.severity = name, severity

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Corrupt the image of ``results``."""
        if self.name is not None:
            rng = np.random.default_rng([self.seed, zlib.crc32(self._key(results).encode(errors='surrogateescape'))])
            image = np.ascontiguousarray(results['img'][..., ::-1])
            results['img'] = np.ascontiguousarray(corrupt(image, self.name, self.severity, rng)[..., ::-1])
        return results

    def _key(self, results: dict[str, Any]) -> str:
        path = results.get('img_path')
        image = '/'.join(os.path.normpath(path).split(os.sep)[-2:]) if path else str(results['sample_idx'])
        return f'{self.name} {self.severity} {image}'
