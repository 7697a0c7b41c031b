"""Boxes of Pascal VOC 2007 and 2012 (Everingham et al. 2010)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

from mmengine.fileio import list_from_file

from mmmim.datasets.checked import Origin
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.names import printable

from .base import Box, ImagesWithBoxes, check_box
from .xml import parse_xml, read_xml


@dataclass(frozen=True)
class VOCObject:
    """An object of an annotation file.

    Attributes:
        box: Box of which 1 is subtracted from the first two numbers only, so that areas are products of differences.
        hard: Whether it is marked as difficult or truncated.
    """

    box: Box
    hard: bool


def read_objects(data: bytes, name: str) -> list[VOCObject]:
    """Objects of an annotation file; arguments and errors of :func:`mmmim.datasets.boxes.xml.parse_xml`."""
    return _objects(parse_xml(data, name), name)


def _objects(root: Element, name: str) -> list[VOCObject]:
    found = []
    for each in root.iterfind('object'):
        corners = [_number(each, f'bndbox/{side}', name) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
        box = check_box([corners[0] - 1, corners[1] - 1, *corners[2:]], name)
        hard = any(_number(each, mark, name, 0) for mark in ('difficult', 'truncated'))
        found.append(VOCObject(box, hard))
    return found


def _number(node: Element, path: str, name: str, default: float | None = None) -> float:
    text = node.findtext(path)
    if text is None and default is not None:
        return default
    try:
        return float(text or '')
    except ValueError:
        raise InputError(
            f'{printable(name)} has an object whose {path} is {(text or "nothing")[:40]!r} and no number: get it anew.'
        ) from None


@DATASETS.register_module()
class VOCBoxes(ImagesWithBoxes):
    """Images of Pascal VOC and the boxes of all their objects, as LOST and TokenCut score object discovery.

    Args:
        data_root: Folder of one year, ``VOCdevkit/VOC2007`` or ``VOCdevkit/VOC2012``.
        split: List in ``ImageSets/Main`` of the names of the images.
        no_hard: Whether objects marked as difficult or truncated are left out.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        InputError: Files are missing, hold something else, or name paths outside of the folder.
    """

    METAINFO: ClassVar[dict] = {}
    origin = Origin(
        'Pascal VOC',
        'JPEGImages/, Annotations/ with an XML file for every image, and ImageSets/Main/ with lists of names, of '
        'VOCtrainval_06-Nov-2007.tar or VOCtrainval_11-May-2012.tar',
        'objects-pascal-voc-coco-20k',
    )

    def __init__(self, data_root: str, split: str = 'trainval', no_hard: bool = False, **kwargs: Any) -> None:
        self.no_hard = no_hard
        names = os.path.join('ImageSets', 'Main', f'{split}.txt')
        super().__init__(data_root=data_root, ann_file=names, data_prefix='JPEGImages', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and boxes of every image."""
        annotations = os.path.join(self.data_root, 'Annotations')
        self.check_inside(self.ann_file, self.data_root)
        found = []
        for line in list_from_file(self.ann_file):
            if not (name := line.strip()):
                continue
            file = os.path.join(annotations, f'{name}.xml')
            self.check_inside(file, annotations)
            objects = _objects(read_xml(file), file)
            boxes = [each.box for each in objects if not (self.no_hard and each.hard)]
            found.append({'img_path': os.path.join(self.img_prefix, f'{name}.jpg'), 'gt_bboxes': boxes})
        return found
