"""What a fitted test checks and writes: classes of pixels and images, or values such as depths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmmim.datasets.label_counts import LabelCounts, check_two_classes, check_two_classes_of_images, count_labels
from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.evaluation.probes.fitted import Probe
from mmmim.features.cache import Data, Samples
from mmmim.features.frozen import FrozenFeatures
from mmmim.features.truths import ignore_index, map_of
from mmmim.models.layers import unpatchify
from mmmim.utils import InputError

#: Takes a sentence of warning.
Warn = Callable[[str], None]


class Classes:
    """Labels are predicted, of the pixels of patches or of whole images.

    Args:
        probe: The probe that predicts.
        warn: Function that takes a sentence of warning.
    """

    def __init__(self, probe: Probe, warn: Warn) -> None:
        self.probe, self.warn = probe, warn

    def check(self, model: FrozenFeatures, fit: Data, test: Data) -> None:
        """Refuse what cannot be fitted or scored, before features are extracted.

        Raises:
            InputError: Data sets differ in their classes, or the probe is not for them.
        """
        sets = {f'{data.name}.dataset': data.dataset for data in (fit, test)}
        for sentence in check_agreement([space for item in sets.items() for space in label_spaces(*item)]):
            self.warn(sentence)
        check_two_classes(*sets.items())
        kind = type(self.probe).__name__
        if model.kind != 'vector':
            if self.probe.ranks:
                raise InputError(
                    f'mmmim.{kind} names classes of whole images, and model.features={model.features!r} are patches: '
                    "use mmmim.KNNProbe, or a feature of the whole image, such as 'pooled'."
                )
            return
        check_two_classes_of_images(f'{fit.name}.dataset', fit.dataset)
        if test.dataset.metainfo.get('evaluated_classes') and not self.probe.ranks:
            raise InputError(
                f'{test.name}.dataset scores predictions among some of the classes, and mmmim.{kind} says which of all '
                'is the most likely: use mmmim.WeightedKNNProbe, or a head that is trained.'
            )

    def say_dropped(self, data: Data, samples: Samples) -> None:
        """Warn of classes without a label to fit on, and of many ignored ones."""
        assert samples.labels is not None
        table: np.ndarray = np.zeros(samples.num_classes + 1, np.int64)
        for part in np.array_split(samples.labels, max(1, samples.labels.nbytes >> 23)):  # a file, mapped into memory
            table += count_labels(part, len(table), None)[0]
        space = label_spaces(f'{data.name}.dataset', data.dataset)[0]
        unit = 'image' if samples.labels.shape[1:] == (1, 1) else 'pixel'
        counts = LabelCounts(space, unit, np.delete(table, samples.ignored), int(table[samples.ignored]))
        for sentence in counts.dropped():
            self.warn(sentence)

    def compact(self, predictions: Tensor, test: Samples) -> Tensor:
        """Predictions ``[m, q]`` as they are kept for all images."""
        return predictions.to(torch.uint8 if test.num_classes < 256 else torch.int32).cpu()

    def output(self, sample: Any, labels: Tensor, test: Samples, dataset: Any) -> Any:
        """A data sample with its prediction, from labels ``[N, q]`` as the samples ``test`` have them."""
        labels, ignored = labels.long(), ignore_index(dataset)
        classes = labels - test.first
        if 'gt_sem_seg' not in sample:
            if self.probe.ranks:
                sample.set_field(classes[0], 'pred_ranking')
            return sample.set_pred_label(classes[0, :1])
        from mmengine.structures import PixelData

        height, width = sample.gt_sem_seg.data.shape[-2:]
        side = round((height * width / len(labels)) ** 0.5)
        if ignored is not None:
            classes = torch.where(labels == test.ignored, ignored, classes)
        tiles = classes.expand(-1, side**2).unsqueeze(0)
        sample.pred_sem_seg = PixelData(data=unpatchify(tiles, (height // side, width // side), channels=1)[0])
        return sample


class PixelValues:
    """Values of pixels are predicted: one of each patch, interpolated bilinearly to the size of the true map.

    Args:
        probe: The probe that predicts.
        warn: Function that takes a sentence of warning.
    """

    def __init__(self, probe: Probe, warn: Warn) -> None:
        self.probe, self.warn = probe, warn
        self._grid = 0, 0

    def check(self, model: FrozenFeatures, fit: Data, test: Data) -> None:
        """Refuse data sets without maps, before features are extracted.

        Raises:
            InputError: A pipeline gives no map.
        """
        for data in (fit, test):
            sample = data.dataset[0]
            if 'gt_map' not in sample['data_samples']:
                raise InputError(
                    f'{data.name}: the pipeline gives no gt_map, which mmmim.{type(self.probe).__name__} predicts: '
                    'load it by mmmim.LoadDepth or mmmim.LoadNormals and pack it with '
                    "dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_map',))."
                )
        if model.kind == 'patches':
            self._grid = model.extract([sample['inputs']])[1]

    def say_dropped(self, data: Data, samples: Samples) -> None:
        """Warn of many patches without a value."""
        values = samples.flat('values')
        share = 1 - np.isfinite(values).all(axis=1).mean()
        if share >= 0.5:
            self.warn(f'{data.name}.dataset: {share:.0%} of the patches have no known value and are not fitted on.')

    def compact(self, predictions: Tensor, test: Samples) -> Tensor:
        """Predictions ``[m, C]`` as they are kept for all images."""
        return predictions.float().cpu()

    def output(self, sample: Any, values: Tensor, test: Samples, dataset: Any) -> Any:
        """A data sample with ``pred_map`` ``[H, W, C]``, from values ``[N, C]``."""
        size = map_of(sample).shape[:2]
        low = values.T.unflatten(1, self._grid).unsqueeze(0)
        found = interpolate(low, size, mode='bilinear', align_corners=False)
        sample.set_field(found[0].permute(1, 2, 0).numpy(), 'pred_map')
        return sample
