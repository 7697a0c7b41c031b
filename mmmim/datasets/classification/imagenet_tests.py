"""Test sets for heads that tell the 1000 classes of ImageNet-1k apart."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from mmmim.datasets.checked import PAGE
from mmmim.datasets.image_folder import ImageFolder
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.options import Range

#: Of the metainfo: classes that a prediction may be of; all where it is missing.
EVALUATED = 'evaluated_classes'


@cache
def imagenet_classes() -> tuple[str, ...]:
    """WordNet ids of the 1000 classes of ImageNet-1k in their order, which is that of the names of its folders."""
    return tuple(Path(__file__).with_name('imagenet1k.txt').read_text().split())


@DATASETS.register_module()
class ImageNetTestSet(ImageFolder):
    """Images of classes of ImageNet-1k in a folder per class, labelled by their place among all its 1000 classes.

    ImageNet-A (arXiv 1907.07174) and -R (arXiv 2006.16241) have 200 of the classes, and predictions count among these
    alone: ``metainfo['evaluated_classes']``, which ``mmmim.AcceptedAccuracy`` follows. ImageNet-Sketch (arXiv
    1905.13549) and ImageNetV2 (arXiv 1902.10811) have all.

    Args:
        data_root: The folder with a folder of images per class.
        num_folders: Number of classes with a folder. Of fewer than 1000, predictions are restricted to them.
        numbered: Whether folders are called by the number of the class, '0' to '999', as in ImageNetV2; otherwise they
            are called by its WordNet id.
        **kwargs: Further arguments of :class:`ImageFolder`: ``section``, ``pipeline``, ``test_mode``, ...

    Raises:
        InputError: The folder is missing, or has other class folders or images beside them.
    """

    def __init__(
        self,
        data_root: str,
        num_folders: Annotated[int, Range(1, 1000)] = 1000,
        numbered: bool = False,
        **kwargs: Any,
    ) -> None:
        self.num_folders, self.numbered = num_folders, numbered
        super().__init__(data_root, with_label=True, metainfo={'classes': imagenet_classes()}, **kwargs)

    def _label(self, root: str, paths: list[str]) -> list[tuple[str, int]]:
        classes = imagenet_classes()
        self.folder_to_idx = {name: i for i, name in enumerate(classes)}
        labels = {str(i) if self.numbered else name: i for name, i in self.folder_to_idx.items()}
        samples = [(path, path.split(os.sep, 1)[0]) for path in paths if os.sep in path]
        found = {folder for _, folder in samples}
        if len(found) != self.num_folders or not found <= set(labels):
            kind = "called '0' to '999'" if self.numbered else 'called by WordNet ids of ImageNet-1k'
            other = ''.join(f', and {name!r} is none of these' for name in sorted(found - set(labels))[:1])
            raise InputError(
                f'{root} has {len(found)} class folders with images and must have {self.num_folders} {kind}{other}: '
                f'data_root is the folder that holds them, see {PAGE}#{self.section}.'
            )
        if self.num_folders < len(classes):
            self._metainfo[EVALUATED] = sorted(labels[name] for name in found)
        return [(path, labels[folder]) for path, folder in samples]
