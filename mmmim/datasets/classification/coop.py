"""The lists of few-shot learning: one JSON file per data set (CoOp, Zhou et al. 2022, arXiv 2109.01134)."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Sequence
from typing import Any, Literal

from mmengine.logging import print_log

from mmmim.datasets.checked import PAGE, Checked, Origin
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable
from mmmim.utils.options import Seed

SPLITS = ('train', 'val', 'test')
#: Shares of training and validation images where there is no list; the others are for the test.
SHARES = 0.5, 0.2
_MAX_BYTES = 2**28
Entry = tuple[str, int, str]


@DATASETS.register_module()
class CoOpSplit(Checked):
    """Images and classes of a ``split_zhou_*.json``: lists ``train``, ``val`` and ``test`` of [path, number, name].

    Without the file the images of ``pool`` are divided: of each class, 50 % for training, 20 % for validation and 30 %
    for the test. That is no published split: the metainfo has a ``note``, which :class:`mmmim.LabelsHook` logs, and it
    marks the scores.

    Args:
        data_root: Folder of the data set, with the JSON file.
        split_file: Name of the JSON file.
        pool: Configs of data sets that together have all images, without ``data_root``, for a split without the file.
        images: Folder inside ``data_root`` that paths in the file are relative to.
        split: 'train', 'val' or 'test'.
        without: Names of classes of ``pool`` that are left out.
        seed: Seed of a split without the file.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        InputError: The file is something else, or there is neither a file nor images.
    """

    origin = Origin('the list of CoOp', 'split_zhou_*.json and the images that it names', 'few-shot-lists')

    def __init__(
        self,
        data_root: str,
        split_file: str,
        pool: Sequence[dict],
        images: str = '',
        split: Literal['train', 'val', 'test'] = 'train',
        without: Sequence[str] = (),
        seed: Seed = 1,
        **kwargs: Any,
    ) -> None:
        self.split, self.pool, self.without, self.seed = split, pool, without, seed
        super().__init__(data_root=data_root, ann_file=split_file, data_prefix=images, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and class of every image of the split; the names of the classes."""
        if os.path.exists(self.ann_file):
            lists = read_split(self.ann_file)
            self._metainfo['classes'] = class_names([entry for split in SPLITS for entry in lists[split]])
            return [
                {'img_path': os.path.join(self.img_prefix, path), 'gt_label': label}
                for path, label, _ in lists[self.split]
            ]
        note = (
            f'{printable(self.ann_file)} is not there, so each class is divided by seed {self.seed} into 50 % for '
            f'training, 20 % for validation and 30 % for the test: results are not comparable with published ones '
            f'({PAGE}#{self.origin.section})'
        )
        print_log(note, 'current', logging.WARNING)
        classes, by_class = self._pooled()
        self._metainfo.update(classes=classes, note=note)
        divided = divide(by_class, self.seed)[SPLITS.index(self.split)]
        return [{'img_path': path, 'gt_label': label} for path, label in divided]

    def _pooled(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Names of the classes, and the paths of the images of each."""
        sets = [DATASETS.build({**each, 'data_root': self.data_root}) for each in self.pool]
        names = sets[0].metainfo['classes']
        paths: dict[str, set[str]] = {name: set() for name in names if name not in self.without}
        for each in sets:
            for info in map(each.get_data_info, range(len(each))):
                if (name := names[info['gt_label']]) in paths:
                    paths[name].add(info['img_path'])
        return tuple(paths), [sorted(found) for found in paths.values()]


def read_split(path: str) -> dict[str, list[Entry]]:
    """Read a ``split_zhou_*.json``.

    Args:
        path: Path of the file.

    Returns:
        By split, [path, number of the class, name of the class].

    Raises:
        InputError: It is something else.
    """
    try:
        found = json.loads(read_regular(path, _MAX_BYTES))
        lists = {split: [tuple(entry) for entry in found[split]] for split in SPLITS}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _no_split(path, f'{type(error).__name__}: {error}') from None
    for entry in (entry for split in SPLITS for entry in lists[split]):
        if [type(value) for value in entry] != [str, int, str]:
            raise _no_split(path, f'it has an entry {entry!r:.80}')
    return lists


def class_names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Names of classes 0 to K - 1.

    Args:
        entries: Entries of all splits.

    Raises:
        InputError: A class has two names, or a number has none.
    """
    names: dict[int, str] = {}
    for path, label, name in entries:
        if names.setdefault(label, name) != name:
            raise InputError(
                f'A list of CoOp calls class {label} both {names[label]!r} and {name!r} ({printable(path)}): get it '
                'anew.'
            )
    if sorted(names) != list(range(len(names))):
        raise InputError(f'A list of CoOp numbers its {len(names)} classes {min(names)} to {max(names)}: get it anew.')
    return tuple(names[label] for label in range(len(names)))


def divide(by_class: Sequence[Sequence[str]], seed: int) -> list[list[tuple[str, int]]]:
    """Divide the images of each class at random, by :data:`SHARES`.

    Args:
        by_class: Paths of the images of every class.
        seed: Seed of Python's generator.

    Returns:
        Training, validation and test images with their classes.
    """
    generator = random.Random(seed)
    parts: list[list[tuple[str, int]]] = [[], [], []]
    for label, paths in enumerate(by_class):
        shuffled = generator.sample(paths, len(paths))
        train, val = (round(share * len(paths)) for share in SHARES)
        for part, chosen in zip(
            parts, (shuffled[:train], shuffled[train : train + val], shuffled[train + val :]), strict=True
        ):
            part += [(path, label) for path in chosen]
    return parts


def _no_split(path: str, reason: str) -> InputError:
    return InputError(
        f'{printable(path)} is no list of CoOp ({printable(reason)}): it holds train, val and test, lists of [path, '
        f'number of the class, name of the class]; see {PAGE}#{CoOpSplit.origin.section}.'
    )
