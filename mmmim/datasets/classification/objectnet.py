"""ObjectNet (Barbu et al. 2019): the images whose classes ImageNet-1k has too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from mmmim.datasets.checked import Checked, Origin
from mmmim.datasets.transforms.loading import read_image
from mmmim.registry import DATASETS
from mmmim.utils.files import read_regular

from .imagenet_tests import EVALUATED, imagenet_classes

#: Pixels of the red frame that every image has.
FRAME = 1
_MAX_BYTES = 2**24


@DATASETS.register_module()
class ObjectNet(Checked):
    """Images of ObjectNet for a head of ImageNet-1k: 18 574 of 50 273 images, 113 of 313 classes.

    A class of ObjectNet may be several of ImageNet, and a prediction of any of them is right: ``gt_label`` is their
    list. The red frame is cut off: samples have ``img``, BGR, which ``mmmim.LoadImage`` leaves as it is.

    Args:
        data_root: The folder ``objectnet-1.0`` with ``images/`` and ``mappings/``.
        restricted: Whether predictions count among the classes that ObjectNet has alone. Defaults to False: a
            prediction of another class is wrong.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        InputError: Files are missing, or hold something else.
    """

    origin = Origin('ObjectNet', 'images/ and mappings/ of objectnet-1.0.zip', 'objectnet')

    def __init__(self, data_root: str, restricted: bool = False, **kwargs: Any) -> None:
        self.restricted = restricted
        classes = {'classes': imagenet_classes()}
        super().__init__(data_root=data_root, ann_file='', data_prefix='images', metainfo=classes, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and classes of every mapped image."""
        folders = self._classes_of_folders()
        if self.restricted:
            self._metainfo[EVALUATED] = sorted({label for labels in folders.values() for label in labels})
        found = []
        for folder, labels in sorted(folders.items()):
            place = os.path.join(self.img_prefix, folder)
            self.check_inside(place, self.img_prefix)
            found += [
                {'img_path': os.path.join(place, name), 'gt_label': labels}
                for name in sorted(os.listdir(place))
                if name.lower().endswith('.png')
            ]
        return found

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on an image without its frame."""
        info = self.get_data_info(idx)
        image = read_image(info['img_path'])
        info['img'] = image[FRAME:-FRAME, FRAME:-FRAME, ::-1].copy()
        return self.pipeline(info)

    def _classes_of_folders(self) -> dict[str, list[int]]:
        """Indices of classes of ImageNet by folder, from the four files of ``mappings/``.

        A folder has a label of ObjectNet; that, names of ImageNet's classes joined by '; '; a name, a line of
        ``imagenet_to_label_2012_v2``; and the number of that line, a class.
        """
        labels = self._mapping('folder_to_objectnet_label.json')
        names = self._mapping('objectnet_to_imagenet_1k.json')
        lines = {int(line): int(label) for label, line in self._mapping('pytorch_to_imagenet_2012_id.json').items()}
        text = read_regular(self._path('imagenet_to_label_2012_v2'), _MAX_BYTES).decode()
        index = {name.strip(): lines[i] for i, name in enumerate(text.strip().splitlines())}
        return {
            folder: [index[name.strip()] for name in names[label].split(';')]
            for folder, label in labels.items()
            if label in names
        }

    def _path(self, name: str) -> str:
        return os.path.join(self.data_root, 'mappings', name)

    def _mapping(self, name: str) -> Mapping[str, Any]:
        found = json.loads(read_regular(self._path(name), _MAX_BYTES))
        if not isinstance(found, dict):
            raise TypeError(f'{name} is no JSON object')
        return found
