"""Boxes of COCO's images (Lin et al. 2014, arXiv 1405.0312), such as the 20 000 of COCO-20k."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from mmengine.fileio import list_from_file

from mmmim.datasets.checked import Origin
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable

from .base import Box, ImagesWithBoxes, check_box

#: The instances of train2014 have some 300 MB.
MAX_BYTES = 2**31


@DATASETS.register_module()
class COCOBoxes(ImagesWithBoxes):
    """Images of COCO that a list names, and the boxes of their objects, as LOST and TokenCut score object discovery.

    Corners are rounded to whole pixels, and groups of objects (``iscrowd``) are left out. The images of a list are
    those of a number, the last in the name: ``COCO_train2014_000000000009.jpg``, in any folder, or ``9`` alone.

    Args:
        data_root: Folder of the data set.
        list_file: List of images inside it, one a line; '' for all images of ``instances``.
        instances: JSON file of the boxes inside it.
        images: Folder of the images inside it.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        InputError: Files are missing, hold something else, or name paths outside of the folder.
    """

    METAINFO: ClassVar[dict] = {}
    origin = Origin(
        'COCO-20k',
        'train2014/ of train2014.zip, annotations/instances_train2014.json of annotations_trainval2014.zip, and '
        'coco_20k_filenames.txt, the list of the images',
        'objects-pascal-voc-coco-20k',
    )

    def __init__(
        self,
        data_root: str,
        list_file: str = 'coco_20k_filenames.txt',
        instances: str = 'annotations/instances_train2014.json',
        images: str = 'train2014',
        **kwargs: Any,
    ) -> None:
        self.list_file = list_file
        super().__init__(data_root=data_root, ann_file=instances, data_prefix=images, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and boxes of every image."""
        names, boxes = read_instances(self.ann_file)
        numbers = list(names)
        if self.list_file:
            file = os.path.join(self.data_root, self.list_file)
            self.check_inside(file, self.data_root)
            numbers = [image_number(line, file) for line in list_from_file(file) if line.strip()]
        if lacking := [number for number in numbers if number not in names]:
            raise InputError(
                f'{printable(self.ann_file)} lacks {len(lacking)} of the {len(numbers)} listed images, such as '
                f'{lacking[0]}: list and boxes must be of the same images, for COCO-20k those of train2014.'
            )
        return [
            {'img_path': os.path.join(self.img_prefix, names[number]), 'gt_bboxes': boxes.get(number, [])}
            for number in numbers
        ]


def image_number(line: str, file: str) -> int:
    """The number of an image in a line of a list.

    Raises:
        InputError: It has none.
    """
    found = re.search(r'(\d{1,18})(?:\.\w+)?\s*$', line)
    if found is None:
        raise InputError(f'{printable(file)} has a line {printable(line)[:80]!r}, which names no image of COCO.')
    return int(found[1])


def read_instances(path: str) -> tuple[dict[int, str], dict[int, list[Box]]]:
    """Read a file ``instances_*.json``.

    Args:
        path: Path of the file.

    Returns:
        Names of image files, and boxes of images, by the number of the image.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is something else.
    """
    try:
        found = json.loads(read_regular(path, MAX_BYTES))
        names = {each['id']: each['file_name'] for each in found['images']}
        if any(type(number) is not int or type(name) is not str for number, name in names.items()):
            raise TypeError('images must have a whole number as id and a text as file_name')
        boxes: dict[int, list[Box]] = {}
        for each in found['annotations']:
            if not each.get('iscrowd', 0):
                boxes.setdefault(each['image_id'], []).append(_corners(each, path))
    except (FileNotFoundError, InputError):
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(
            f'{printable(path)} is no file of instances of COCO ({type(error).__name__}: {printable(reason)}): it '
            'holds images and annotations with bbox; get it anew.'
        ) from None
    return names, boxes


def _corners(annotation: Mapping[str, Any], path: str) -> Box:
    """From a corner and two sides to two corners, rounded."""
    x, y, width, height = (float(value) for value in annotation['bbox'])
    x0, y0, x1, y1 = (float(round(value)) for value in (x, y, x + width, y + height))
    return check_box([x0, y0, x1, y1], path)
