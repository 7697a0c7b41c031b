"""Labelled images in memory, and their features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch import Tensor

from mmmim.datasets.label_counts import LabelCounts
from mmmim.datasets.label_spaces import LabelSpace, label_spaces
from mmmim.models.data_preprocessors import swap_red_and_blue
from mmmim.utils import InputError

from .extraction import Features
from .names import layers_of
from .patch_labels import patch_labels

#: Images of each class that a subset for learning has, at least: votes and regressions need some.
PER_CLASS = 20


@dataclass
class LabelledImages:
    """Images in memory.

    Attributes:
        images: RGB, uint8 ``[n, 3, H, W]``.
        labels: Class of every image, ``[n]``, or None.
        label_maps: Label of every pixel, ``[n, H, W]``, or None.
        ignored_labels: Labels of pixels that do not count, from ``ignored_labels`` in the metainfo of the data set.
        batch: Images that are encoded at a time.
        spaces: What the labels mean, see :func:`mmmim.datasets.label_spaces.label_spaces`.
    """

    images: Tensor
    labels: Tensor | None
    label_maps: Tensor | None
    ignored_labels: tuple[int, ...] = ()
    batch: int = 250
    spaces: Sequence[LabelSpace] = ()

    @classmethod
    def read(
        cls,
        dataset: BaseDataset,
        number: int | None = None,
        classes: Sequence[int] | None = None,
        bgr: bool = True,
        name: str = 'The data set',
    ) -> LabelledImages:
        """Read images and their labels.

        Args:
            dataset: A data set whose pipeline ends in ``mmpretrain.PackInputs``; classes are ``gt_label`` of a data
                sample, label maps its ``gt_seg_map``.
            number: How many images; None for all. In random order, a random subset, the same every time. A subset has
                at least 20 images of a class, so it has fewer classes where there are many.
            classes: Only images of these.
            bgr: Whether images come as BGR, as OpenMMLab's loaders give them.
            name: Name of the data set, for messages.

        Raises:
            InputError: Images of different sizes, or label maps that do not fit them.
        """
        order = _choose(dataset, number, classes)
        samples = [dataset[int(i)] for i in order]
        images = [sample['inputs'] for sample in samples]
        for image in images:
            if image.shape != images[0].shape:
                raise InputError(
                    f'Probes need images of one size and got {list(images[0].shape)} and {list(image.shape)}: let the '
                    'pipeline of the probe data end in a resize or crop of fixed size.'
                )
        data = [sample['data_samples'] for sample in samples]
        maps = [torch.as_tensor(d.gt_seg_map) for d in data] if 'gt_seg_map' in data[0] else None
        for label_map in maps or []:
            if label_map.shape != images[0].shape[-2:] or label_map.min() < 0:
                raise InputError(
                    f'A label map of {list(label_map.shape)} with labels from {int(label_map.min())} does not fit an '
                    f'image of {list(images[0].shape[-2:])}: let the pipeline of the probe data resize and crop both.'
                )
        return cls(
            images=swap_red_and_blue(torch.stack(images)) if bgr else torch.stack(images),
            labels=torch.cat([d.gt_label for d in data]) if 'gt_label' in data[0] else None,
            label_maps=None if maps is None else torch.stack(maps),
            ignored_labels=tuple(dataset.metainfo.get('ignored_labels', ())),
            spaces=label_spaces(name, dataset),
        )

    def encode(self, extract: Callable[[Tensor], Features], number: int | None = None) -> Iterator[Features]:
        """Features of the first ``number`` images (None: of all), batch by batch; ``extract`` gets uint8 RGB images."""
        for images in self.images[:number].split(self.batch):
            yield extract(images)


def _choose(dataset: BaseDataset, number: int | None, classes: Sequence[int] | None) -> Tensor:
    """Indices of ``number`` random images of some classes."""
    # Folders are sorted by class, and some users of the images take the first ones.
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    if (number is None or number >= len(order)) and classes is None:
        return order
    labels = torch.tensor([dataset.get_data_info(i).get('gt_label', 0) for i in range(len(dataset))])
    if classes is None:
        known = labels.unique()
        limit = (number or len(order)) // min(PER_CLASS, len(order) // len(known))
        spread = torch.linspace(0, len(known) - 1, max(1, min(limit, len(known))), dtype=torch.float64).round().long()
        classes = known[spread].tolist()
    return order[torch.isin(labels[order], torch.tensor(classes))][:number]


def global_features(batches: Iterator[Features], names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Features of whole images, on the CPU.

    Args:
        batches: Features of consecutive batches.
        names: Names of poolings, see :meth:`mmmim.features.Features.pool`; None for 'predicted', 'cls' and 'pooled'.
            What a model does not have is left out.

    Returns:
        ``[n, D]`` each.
    """
    parts: dict[str, list[Tensor]] = {}
    for features in batches:
        for name in names or ('predicted', 'cls', 'pooled'):
            value = features.pool(name)
            if value is not None:
                parts.setdefault(name, []).append(value.float().cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def dense_features(
    extract: Callable[[Tensor], Features], data: LabelledImages, number: int | None = None
) -> tuple[Tensor, Tensor]:
    """Patch features ``[n * N, D]`` and the labels of the patches' pixels ``[n * N, patch_size**2]``, on the CPU."""
    assert data.label_maps is not None
    patches, patch_size = [], 0
    for features in data.encode(extract, number):
        patch_size = data.images.shape[-1] // features.grid[1]
        patches.append(features.patches[-1].flatten(0, 1).float().cpu())
    labels = patch_labels(data.label_maps[:number], patch_size)
    return torch.cat(patches), labels.flatten(0, 1)


def dropped_labels(sets: Sequence[LabelledImages], dense_images: int | None = None) -> list[str]:
    """Sentences about what scores on some of these images, learned on the others, leave out.

    A class is a label that one of the sets has.

    Args:
        sets: Images to learn on and to score.
        dense_images: Images of each whose label maps are used; None for all.

    Returns:
        See :meth:`mmmim.datasets.label_counts.LabelCounts.dropped`.
    """
    sentences = []
    for unit in ('image', 'pixel'):
        labels = [each.labels if unit == 'image' else each.label_maps for each in sets]
        if any(each is None for each in labels):
            continue
        tables = [each[:dense_images] if unit == 'pixel' else each for each in labels if each is not None]
        left_out = {label for each in sets for label in each.ignored_labels} if unit == 'pixel' else set()
        found = [dict(zip(*(x.tolist() for x in t.unique(return_counts=True)), strict=True)) for t in tables]
        values = sorted({label for counts in found for label in counts} - left_out)
        for each, counts in zip(sets, found, strict=True):
            names = each.spaces[0].classes if each.spaces and unit == 'image' else None
            space = LabelSpace(
                each.spaces[0].name if each.spaces else 'The data set',
                tuple(names[v] if names and v < len(names) else f'label {v}' for v in values),
                ignored=min(left_out, default=None),
            )
            ignored = sum(counts.get(label, 0) for label in left_out)
            numbers = np.array([counts.get(v, 0) for v in values], np.int64)
            sentences += LabelCounts(space, unit, numbers, ignored).dropped()
    return sentences


def extractor(model: Any, names: Sequence[str] = ()) -> Callable[[Tensor], Features]:
    """From uint8 RGB images to features, by a :class:`mmmim.FeatureExtractor`.

    Args:
        model: Encoder with its normalisation.
        names: Names of the features that will be asked for; the blocks that they name come before the last one.
    """
    layers = layers_of(names)
    return lambda images: model(model.preprocess(images), layers)
