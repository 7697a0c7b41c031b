"""What a data set says of the samples of an image, as the cache keeps it: labels, or values such as depths.

Legend as in ``cache.py``; C channels of a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.datasets.label_counts import labels_of, outside
from mmmim.datasets.label_spaces import label_spaces, leaves
from mmmim.utils import InputError

from .patch_labels import mode, patch_labels
from .stored_arrays import ArraySpec

#: Share of the pixels of a patch whose value must be known for the patch to have one.
KNOWN = 0.5


class Truth(ABC):
    """The truth of a data set, sample by sample.

    Args:
        data: The data set, a :class:`mmmim.features.cache.Data`.
        grid: Grid of the samples of an image, (h, w).
    """

    #: First part of the names of entries in the cache.
    kind: str

    def __init__(self, data: Any, grid: tuple[int, int]) -> None:
        self.data, self.grid = data, grid

    @abstractmethod
    def specs(self, n: int, image: Tensor) -> dict[str, ArraySpec]:
        """Arrays of ``n`` images that are like ``image``, ``[3, H, W]``."""

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """What they depend on beside the data set."""

    @abstractmethod
    def arrays(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Rows of the arrays, of the data samples of a batch."""


class Labels(Truth):
    """The labels of the pixels of a patch, or the class of an image."""

    kind = 'labels'

    def specs(self, n: int, image: Tensor) -> dict[str, ArraySpec]:
        """Labels ``[n, N, q]`` and the most frequent ones ``[n, N]``."""
        dtype = 'uint8' if self.data.num_classes < 256 else 'int32'
        samples = self.grid[0] * self.grid[1]
        of_patches = 'gt_sem_seg' in self.data.dataset[0]['data_samples']
        labels = patch_size(image.shape[-2:], self.grid, self.data) ** 2 if of_patches else 1
        return {'labels': ArraySpec((n, samples, labels), dtype), 'majority': ArraySpec((n, samples), dtype)}

    def key(self) -> dict[str, Any]:
        """Grid, and what ignored labels become."""
        return {'grid': list(self.grid), 'ignored': self.data.ignored}

    def arrays(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Labels and the most frequent ones."""
        labels = label_vectors(samples, self.grid, self.data)
        return {'labels': labels.numpy(), 'majority': mode(labels, self.data.num_classes + 1).numpy()}


class Values(Truth):
    """The mean of the known values of the pixels of a patch, such as a depth; NaN where fewer than half are known."""

    kind = 'values'

    def specs(self, n: int, image: Tensor) -> dict[str, ArraySpec]:
        """Means ``[n, N, C]``."""
        channels = map_of(self.data.dataset[0]['data_samples']).shape[-1]
        return {'values': ArraySpec((n, self.grid[0] * self.grid[1], channels), 'float32')}

    def key(self) -> dict[str, Any]:
        """Grid, and the share of known pixels."""
        return {'grid': list(self.grid), 'known': KNOWN}

    def arrays(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Means of the patches."""
        return {'values': np.stack([patch_means(map_of(sample), self.grid) for sample in samples])}


def truth_of(data: Any, grid: tuple[int, int]) -> Truth:
    """What the pipeline of a data set gives beside the images."""
    return (Values if 'gt_map' in data.dataset[0]['data_samples'] else Labels)(data, grid)


def map_of(sample: Any) -> np.ndarray:
    """Values of the pixels of an image, ``[H, W, C]`` float32, NaN where they are not known."""
    return np.asarray(sample.get('gt_map'))


def patch_means(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Means of the known values inside the cells of a grid, whatever the size of the map.

    A pixel lies in the cell of its upper left corner.

    Args:
        values: ``[H, W, C]``, NaN in all channels where they are not known.
        grid: Rows and columns of cells, (h, w).

    Returns:
        ``[h * w, C]`` float32, NaN where fewer than half of the pixels of a cell are known.
    """
    (height, width), (h, w) = values.shape[:2], grid
    cells = (np.arange(height) * h // height)[:, None] * w + np.arange(width) * w // width
    known = np.isfinite(values).all(axis=2)
    total = np.bincount(cells.ravel(), minlength=h * w)
    counts = np.bincount(cells[known], minlength=h * w)
    sums = [np.bincount(cells[known], channel, h * w) for channel in values[known].T.astype(np.float64)]
    enough = (counts > 0) & (counts >= KNOWN * total)
    return np.where(enough, np.stack(sums) / np.maximum(counts, 1), np.nan).T.astype(np.float32)


def patch_size(size: Sequence[int], grid: tuple[int, int], data: Any) -> int:
    """Side of the square patches that an image of a size (H, W) is cut into.

    Raises:
        InputError: It cannot be cut so.
    """
    (height, width), (h, w) = size, grid
    if height % h or width % w or height // h != width // w:
        raise InputError(
            f'{data.name}: images of {height} x {width} pixels cannot be cut into {h} x {w} square patches: resize '
            'them to a multiple of the patch size.'
        )
    return height // h


def label_vectors(samples: Sequence[Any], grid: tuple[int, int], data: Any) -> Tensor:
    """Labels ``[B, N, q]`` of data samples, see :class:`mmmim.features.cache.Samples`.

    Raises:
        InputError: There are labels that are no classes.
    """
    if 'gt_sem_seg' in samples[0]:
        maps = torch.cat([sample.gt_sem_seg.data for sample in samples])
        labels = patch_labels(maps, patch_size(maps.shape[-2:], grid, data))
    else:
        several = next((sample for sample in samples if len(sample.gt_label) != 1), None)
        if several is not None:
            raise InputError(
                f'{data.name}.dataset: {several.get("img_path", "an image")} has the classes '
                f'{several.gt_label.tolist()}, and probes are fitted on images that have one.'
            )
        labels = torch.cat([sample.gt_label for sample in samples]).view(-1, 1, 1)
    index = ignore_index(data.dataset)
    ignored = torch.zeros_like(labels, dtype=torch.bool) if index is None else labels == index
    valid = ((labels >= 0) & (labels < data.num_classes)) | ignored
    if not valid.all():
        place = int((~valid).flatten(1).any(dim=1).nonzero()[0])
        found = labels_of(samples[place])
        label = int(labels[place][~valid[place]][0])
        raise outside(label, label_spaces(f'{data.name}.dataset', data.dataset)[0], found[2] if found else None)
    return torch.where(ignored, data.ignored, labels + int(data.ignored == 0))


def ignore_index(dataset: Any) -> int | None:
    """The label that a data set ignores, or the first one in a wrapper; None where it ignores none."""
    return next((getattr(leaf, 'ignore_index', None) for leaf in leaves(dataset)), None)
