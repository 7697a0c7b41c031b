"""CLEVR (Johnson et al. 2017, arXiv 1612.06890): how many objects there are, and how far the nearest is."""

import bisect
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmmim.registry import DATASETS
from mmmim.utils import InputError

from .checked import Checked, Origin

#: Upper ends of the distances of all classes but the last (VTAB, arXiv 1910.04867).
DISTANCES = (8.0, 8.5, 9.0, 9.5, 10.0)
#: The fewest and the most objects of a scene.
COUNTS = (3, 10)


def count_label(objects: Sequence[Mapping[str, Any]]) -> int:
    """CLEVR/Count: the number of objects, less 3.

    Args:
        objects: The objects of a scene.

    Raises:
        InputError: There are fewer than 3 or more than 10.
    """
    if not COUNTS[0] <= len(objects) <= COUNTS[1]:
        raise InputError(f'A scene of CLEVR has {len(objects)} objects: there are {COUNTS[0]} to {COUNTS[1]} of them.')
    return len(objects) - COUNTS[0]


def distance_label(objects: Sequence[Mapping[str, Any]]) -> int:
    """CLEVR/Dist: how many of :data:`DISTANCES` the nearest object is beyond.

    Args:
        objects: The objects of a scene, with ``pixel_coords``, whose third entry is the distance.

    Raises:
        InputError: There are none.
    """
    if not objects:
        raise InputError('A scene of CLEVR has no objects: nothing is nearest.')
    return bisect.bisect_left(DISTANCES, min(each['pixel_coords'][2] for each in objects))


#: How a scene's class follows from its objects, and the number of classes, by task.
TASKS: dict[str, tuple[Callable[[Sequence[Mapping[str, Any]]], int], int]] = {
    'count': (count_label, COUNTS[1] - COUNTS[0] + 1),
    'distance': (distance_label, len(DISTANCES) + 1),
}


def scene_labels(scenes: Iterable[Mapping[str, Any]], task: str) -> dict[str, int]:
    """Classes of images by their file names.

    Args:
        scenes: Entries of ``scenes`` in ``CLEVR_train_scenes.json``, with ``image_filename`` and ``objects``.
        task: 'count' or 'distance'.

    Raises:
        InputError: There is no such task, or a scene is no scene of CLEVR.
    """
    if task not in TASKS:
        raise InputError(f'CLEVR has no task {task!r}: use one of {", ".join(TASKS)}.')
    try:
        return {scene['image_filename']: TASKS[task][0](scene['objects']) for scene in scenes}
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f'These are no scenes of CLEVR: {type(error).__name__}: {error}.') from None


@DATASETS.register_module()
class CLEVR(Checked):
    """Images of CLEVR_v1.0 with the classes of CLEVR/Count or CLEVR/Dist, in the order of their names.

    Args:
        data_root: The folder ``CLEVR_v1.0``, with ``images/`` and ``scenes/``.
        task: 'count' (8 classes) or 'distance' (6).
        split: 'train' (70 000 images) or 'val' (15 000); the test images have no annotations.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        InputError: There is no such task or split, or the annotations are missing or of something else.
    """

    origin = Origin('CLEVR', 'images/ and scenes/ of CLEVR_v1.0.zip', 'clevr')

    def __init__(self, data_root: str, task: str = 'count', split: str = 'train', **kwargs: Any) -> None:
        if task not in TASKS:
            raise InputError(f'CLEVR has no task {task!r}: use one of {", ".join(TASKS)}.')
        if split not in ('train', 'val'):
            raise InputError(f'CLEVR has no annotations of split={split!r}: use train or val.')
        self.task, self.split = task, split
        super().__init__(
            ann_file=f'scenes/CLEVR_{split}_scenes.json',
            data_root=data_root,
            data_prefix=f'images/{split}',
            metainfo={'classes': [str(label) for label in range(TASKS[task][1])]},
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Path and class of every image."""
        with open(self.ann_file, encoding='utf-8') as file:
            labels = scene_labels(json.load(file)['scenes'], self.task)
        return [
            {'img_path': os.path.join(self.img_prefix, name), 'gt_label': label}
            for name, label in sorted(labels.items())
        ]
