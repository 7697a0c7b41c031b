"""Places365 (Zhou et al. 2017), the images of 256 pixels."""

from __future__ import annotations

import os
from typing import Any, Literal

from mmengine.fileio import list_from_file

from mmmim.datasets.checked import Checked, Origin
from mmmim.registry import DATASETS

#: The folder of the images and the list of a split.
SPLITS = {
    'train': ('data_256_standard', 'places365_train_standard.txt'),
    'val': ('val_256', 'places365_val.txt'),
}


@DATASETS.register_module()
class Places365(Checked):
    """Places365-Standard in small images, in torchvision's layout: 1 803 460 training and 36 500 validation images.

    Args:
        data_root: The folder with ``data_256_standard/``, ``val_256/`` and the three lists.
        split: 'train' or 'val'.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        InputError: Files are missing, or hold something else.
    """

    origin = Origin(
        'Places365',
        'data_256_standard/ of train_256_places365standard.tar, val_256/ of val_256.tar, and '
        'places365_train_standard.txt, places365_val.txt and categories_places365.txt of '
        'filelist_places365-standard.tar',
        'places365',
    )

    def __init__(self, data_root: str, split: Literal['train', 'val'] = 'train', **kwargs: Any) -> None:
        images, list_file = SPLITS[split]
        super().__init__(data_root=data_root, ann_file=list_file, data_prefix=images, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and class of every image; the names of the classes."""
        categories = _pairs(os.path.join(self.data_root, 'categories_places365.txt'))
        names = {label: name.split('/', 2)[2] for name, label in categories}  # '/a/airfield'
        self._metainfo['classes'] = tuple(names[label] for label in range(len(categories)))
        # Paths of the training list begin with a slash, and are relative all the same.
        return [
            {'img_path': os.path.join(self.img_prefix, name.removeprefix('/')), 'gt_label': label}
            for name, label in _pairs(self.ann_file)
        ]


def _pairs(path: str) -> list[tuple[str, int]]:
    """The lines of a list: a name and a number."""
    pairs = (line.rsplit(' ', 1) for line in list_from_file(path))
    return [(name, int(label)) for name, label in pairs]
