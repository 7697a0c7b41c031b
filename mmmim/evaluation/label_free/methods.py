"""What :class:`mmmim.LabelFreeTestLoop` finds in an image: one object, or clusters of its patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from mmmim.features.frozen_patches import PatchReading
from mmmim.registry import PROBES
from mmmim.utils import InputError
from mmmim.utils.options import Count, Members, Natural, Positive, PositiveShare, ShareBelowOne

from .boxes import box_of
from .clusters import PatchTree, spread
from .discovery import Found, dino_seg, lost, tokencut
from .scores import number_of_classes

#: What of a block keys and the like are read as.
Features = Literal['keys', 'queries', 'values', 'patches']


@dataclass
class FoundObject:
    """The object of an image.

    Attributes:
        patches: What was found in the grid of patches.
        box: Box around them in pixels of the image, ``(x0, y0, x1, y1)``.
        cell: Height and width of a patch in pixels of the image.
    """

    patches: Found
    box: np.ndarray
    cell: tuple[float, float]


@dataclass
class FoundClusters:
    """The clusters of an image.

    Attributes:
        labels: Number of the cluster of every pixel, ``[H, W]``, by the number of clusters.
        classes: Label of every pixel, ``[H, W]``.
        ignored: Label of pixels that do not count; None for none.
    """

    labels: dict[str, np.ndarray]
    classes: np.ndarray
    ignored: int | None


class LabelFreeMethod(ABC):
    """What is found in an image from what is read of its patches.

    Attributes:
        reading: What is read, see :meth:`mmmim.FrozenPatches.read`.
    """

    reading: str

    @abstractmethod
    def find(self, read: PatchReading, sample: Any, ignored: int | None) -> Any:
        """What is in an image.

        Args:
            read: What was read of its patches.
            sample: Data sample of the image, with its labels.
            ignored: Label of pixels that do not count; None for none.
        """


class ObjectDiscovery(LabelFreeMethod):
    """One object of each image."""

    def find(self, read: PatchReading, sample: Any, ignored: int | None) -> FoundObject:
        """The object and its box; labels are not looked at."""
        found = self.discover(read.values, read.grid)
        return FoundObject(found, box_of(found.mask, read.cell, read.size), read.cell)

    @abstractmethod
    def discover(self, values: np.ndarray, grid: tuple[int, int]) -> Found:
        """The object's patches from what was read, ``[N, C]``."""


@PROBES.register_module()
class TokenCut(ObjectDiscovery):
    """The object by a normalised cut, see :func:`mmmim.evaluation.label_free.discovery.tokencut`.

    Args:
        features: What is compared: 'keys', 'queries' or 'values' of the block's attention, or its tokens, 'patches'.
        tau: Cosine similarity above which two patches are joined.
        eps: Weight of the others.
        weighted: Whether joined patches have their similarity as weight.
    """

    def __init__(
        self,
        features: Features = 'keys',
        tau: ShareBelowOne = 0.2,
        eps: Positive = 1e-5,
        weighted: bool = False,
    ) -> None:
        self.reading, self.tau, self.eps, self.weighted = features, tau, eps, weighted

    def discover(self, values: np.ndarray, grid: tuple[int, int]) -> Found:
        """The component of the cut."""
        return tokencut(values, grid, self.tau, self.eps, self.weighted)


@PROBES.register_module()
class LOST(ObjectDiscovery):
    """The object by growing a seed, see :func:`mmmim.evaluation.label_free.discovery.lost`.

    Args:
        features: What is compared: 'keys', 'queries' or 'values' of the block's attention, or its tokens, 'patches'.
        k: Number of patches among which the seed looks for similar ones.
    """

    def __init__(self, features: Features = 'keys', k: Count = 100) -> None:
        self.reading, self.k = features, k

    def discover(self, values: np.ndarray, grid: tuple[int, int]) -> Found:
        """The component of the grown seed."""
        return lost(values, grid, self.k)


@PROBES.register_module()
class DINOSeg(ObjectDiscovery):
    """The object by attention, see :func:`mmmim.evaluation.label_free.discovery.dino_seg`.

    Args:
        attention: Attention of 'cls', or the 'mean' of that of all patches, for encoders without CLS.
        head: Number of the head, from 0, or 'mean' of all heads.
        mass: Share of the attention that the patches hold.
    """

    def __init__(
        self,
        attention: Literal['cls', 'mean'] = 'cls',
        head: Natural | Literal['mean'] = 4,
        mass: PositiveShare = 0.6,
    ) -> None:
        self.reading, self.head, self.mass = f'{attention}_attention', head, mass

    def discover(self, values: np.ndarray, grid: tuple[int, int]) -> Found:
        """The largest component of the most attended patches.

        Raises:
            InputError: There is no such head.
        """
        if self.head == 'mean':
            return dino_seg(values.mean(axis=1), grid, self.mass)
        if self.head >= values.shape[1]:
            raise InputError(
                f'test_cfg.probe.head={self.head}: the encoder has {values.shape[1]} heads, from 0; give one of them, '
                "or 'mean'."
            )
        return dino_seg(values[:, self.head], grid, self.mass)


@PROBES.register_module()
class PatchClusters(LabelFreeMethod):
    """Clusters of the patches of an image, see :class:`mmmim.evaluation.label_free.clusters.PatchTree`.

    Args:
        clusters: Numbers of clusters; 'classes' for as many as the image has classes, which its labels tell.
        linkage: 'ward', on features of length 1, or 'average', of cosine distances.
        features: What is compared: the tokens of the block, 'patches', or 'keys', 'queries' or 'values' of its
            attention.
    """

    def __init__(
        self,
        clusters: Annotated[Sequence[Count | Literal['classes']], Members(1)] = (2, 4, 8, 'classes'),
        linkage: Literal['ward', 'average'] = 'ward',
        features: Features = 'patches',
    ) -> None:
        self.reading, self.clusters, self.linkage = features, clusters, linkage

    def find(self, read: PatchReading, sample: Any, ignored: int | None) -> FoundClusters:
        """The cuts of the tree.

        Raises:
            InputError: The image has no label map of its size.
        """
        classes = sample.gt_sem_seg.data.squeeze(0).cpu().numpy() if 'gt_sem_seg' in sample else None
        if classes is None or classes.shape != read.size:
            found = 'none' if classes is None else f'one of {classes.shape[0]} x {classes.shape[1]}'
            raise InputError(
                f'mmmim.PatchClusters needs a label map of {read.size[0]} x {read.size[1]} pixels, as the image has, '
                f'and there is {found}: let the pipeline of the data end in mmseg.PackSegInputs and resize nothing; '
                'model.resize sets what the encoder sees.'
            )
        tree = PatchTree(read.values, read.grid, self.linkage)
        labels = {}
        for number in self.clusters:
            cut = tree.cut(number_of_classes(classes, ignored) if number == 'classes' else number)
            labels[str(number)] = spread(cut, read.cell, read.size)
        return FoundClusters(labels, classes, ignored)
