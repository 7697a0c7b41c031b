"""How many labels of every class there are, and what a score leaves out.

Legend: K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mmmim.utils import InputError

from .label_spaces import LabelSpace, label_spaces, leaves, some

#: Share of ignored labels from which on it is said.
LARGE_SHARE = 0.5
#: Label maps that are looked at before anything is learned, unless the first ones show two classes.
MAPS = 500


@dataclass
class LabelCounts:
    """Labels of a data set, counted.

    Attributes:
        space: What the labels mean.
        unit: 'pixel' or 'image'.
        counts: How often labels 0 to K - 1 occur, ``[K]``, int64.
        ignored: Labels that do not count.
    """

    space: LabelSpace
    unit: str = 'pixel'
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored: int = 0

    @property
    def absent(self) -> list[str]:
        """Names of the classes that no label has."""
        names = self.space.classes or [f'label {i}' for i in range(len(self.counts))]
        return [names[i] for i in np.flatnonzero(self.counts == 0)]

    @property
    def ignored_share(self) -> float:
        """Share of the labels that do not count, in [0, 1]; 0 where there are none."""
        return self.ignored / max(int(self.counts.sum()) + self.ignored, 1)

    def dropped(self, absent: bool = True) -> list[str]:
        """Sentences about what a score leaves out; none where it leaves out nothing worth a word.

        Args:
            absent: Whether classes without a label are named.
        """
        total = int(self.counts.sum()) + self.ignored
        name, sentences = self.space.name, []
        if total and absent and self.absent:
            words = (
                f'{name}: {len(self.absent)} of {len(self.counts)} classes without a single {self.unit} '
                f'({some(self.absent)}). Scores of such a class are nan, or 0 where it is predicted, and means leave '
                'out what is nan.'
            )
            if self.ignored:
                words += (
                    f' If its value in the files is an ignored one ({self._ignored_values}), give it another value, or '
                    'set ignore_index of the data set, of the heads of the model and of the metrics to a label that no '
                    'file has.'
                )
            sentences.append(words)
        if self.ignored_share > LARGE_SHARE:
            sentences.append(
                f'{name}: {self.ignored_share:.1%} of all {self.unit}s are ignored (ignore_index='
                f'{self.space.ignored}), and scores are of the others only. Check ignore_index and reduce_zero_label '
                'of the data set if that is not meant.'
            )
        return sentences

    @property
    def _ignored_values(self) -> str:
        return f'0 and {self.space.ignored}' if self.space.reduced else str(self.space.ignored)


def count_labels(labels: np.ndarray, num_classes: int, ignored: int | None) -> tuple[np.ndarray, int]:
    """Count labels.

    Args:
        labels: Integers of any shape.
        num_classes: Number of classes, K.
        ignored: The label that does not count.

    Returns:
        Counts ``[K]``, and how many are ignored.

    Raises:
        IndexError: One is neither a class nor ignored; its argument is the label.
    """
    flat = labels.reshape(-1)
    valid = flat if ignored is None else flat[flat != ignored]
    if valid.size and (valid.min() < 0 or valid.max() >= num_classes):
        raise IndexError(int(valid[(valid < 0) | (valid >= num_classes)][0]))
    return np.bincount(valid, minlength=num_classes).astype(np.int64), flat.size - valid.size


def outside(label: int, space: LabelSpace, file: str | None = None, num_classes: int | None = None) -> InputError:
    """The error for a label that is no class.

    Args:
        label: The label that is no class.
        space: What the labels of the data set mean.
        file: File that the label was found in.
        num_classes: K, where the data set names no classes.
    """
    number = num_classes if space.classes is None else len(space.classes)
    where = f' in {file}' if file else ''
    if space.ignored is None:
        return InputError(
            f'{space.name}: label {label}{where} is none of the {number} classes: classes are numbered from 0, so give '
            'the data set and the head of the model (num_classes) as many classes as there are labels.'
        )
    return InputError(
        f'{space.name}: label {label}{where} is none of the {number} classes of the data set and is not ignored '
        f'(ignore_index={space.ignored}): set reduce_zero_label or ignore_index of the data set.'
    )


def labels_of(sample: Any) -> tuple[Tensor, str, str | None] | None:
    """The labels of a data sample of mmsegmentation or mmpretrain, what each is of, and the file that they come from.

    Returns:
        A label map ``[1, H, W]`` or classes ``[n]``, 'pixel' or 'image', and a path; None where there are no labels.
    """
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg.data, 'pixel', sample.get('seg_map_path') or sample.get('img_path')
    if 'gt_label' in sample and 'gt_score' not in sample:
        return sample.gt_label, 'image', sample.get('img_path')
    return None


def check_two_classes(*sets: tuple[str, Any]) -> None:
    """Refuse label maps that have no more than one class because the value of the other is ignored.

    Binary masks of 0 and 255 are the usual case: 255 is ignored by default, all other pixels are of one class, and any
    model scores 100. Maps are read until two classes are seen, mostly one; at most :data:`MAPS` of each data set.

    Args:
        sets: Key in the config and data set of those that are learned from and scored together.

    Raises:
        InputError: All labels that count are of one class and others are ignored, a label is no class, or a file is
            missing.
    """
    found: set[int] = set()
    ignored: list[LabelSpace] = []
    for name, dataset in sets:
        for space, leaf in zip(label_spaces(name, dataset), leaves(dataset), strict=True):
            number = len(space.classes or ())
            if number < 2:
                return
            some = False
            for labels, file in _maps(leaf):
                try:
                    counts, left_out = count_labels(labels, number, space.ignored)
                except IndexError as error:
                    raise outside(error.args[0], space, file) from None
                found |= set(np.flatnonzero(counts).tolist())
                some |= left_out > 0
                if len(found) > 1:
                    return
            ignored += [space] * some
    if not ignored:
        return
    space, counting = ignored[0], sorted(found)
    names = space.classes or ()
    kept = f'all other pixels are of {names[counting[0]]!r}' if counting else 'no other pixel is there'
    values = f'{space.ignored} (0 in the files, by reduce_zero_label)' if space.reduced else str(space.ignored)
    raise InputError(
        f'{space.name} has {len(names)} classes, pixels of label {values} are ignored and {kept}, so any prediction '
        'would score 100. Where the files of a binary mask hold 0 and 255, map 255 to 1, or set ignore_index of the '
        'data set to a label that no file has; where they hold 0 and 1, set reduce_zero_label=False.'
    )


def check_two_classes_of_images(name: str, dataset: Any) -> None:
    """Refuse to fit on whole images that are all of one class.

    Args:
        name: Key of the data set in the config.
        dataset: The data set.

    Raises:
        InputError: All its images are of the same class.
    """
    label = None
    for i in range(len(dataset)):
        found = dataset.get_data_info(i).get('gt_label')
        if not isinstance(found, int) or (label is not None and found != label):  # of several labels nothing is said
            return
        label = found
    if label is not None:
        classes = label_spaces(name, dataset)[0].classes or ()
        of = repr(classes[label]) if 0 <= label < len(classes) else f'label {label}'
        raise InputError(
            f'{name}: all {len(dataset)} images are of one class ({of}), so any image would be given it: fit on images '
            'of two classes at least.'
        )


def _maps(dataset: Any) -> Any:
    """Label maps as the pipeline of a data set loads them, before any other transform, with their files."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    load = next((each for each in transforms if type(each).__name__.endswith('LoadAnnotations')), None)
    if load is None or not hasattr(dataset, 'ignore_index'):
        return
    number = len(dataset)
    for i in np.unique(np.linspace(0, number - 1, min(MAPS, number)).astype(int)).tolist():
        info = dataset.get_data_info(i)
        if not info.get('seg_map_path'):  # a test without labels
            return
        try:
            loaded = load(info)
        except FileNotFoundError as error:
            raise InputError(
                f'{info["img_path"]} has no label map {info["seg_map_path"]}: check data_prefix and seg_map_suffix of '
                'the data set.'
            ) from error
        yield np.asarray(loaded['gt_seg_map']).astype(np.int64), loaded.get('seg_map_path')
