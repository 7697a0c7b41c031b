"""Tiny folders of Pascal VOC and COCO with boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

VOC, COCO = 'data/VOCdevkit/VOC2007', 'data/coco'
#: By image: left, top, right, bottom, whether it is truncated or difficult.
OBJECTS = {
    '000': [(5, 7, 20, 30, ''), (1, 1, 64, 48, 'truncated')],
    '001': [(10, 10, 30, 40, 'difficult')],
    '002': [(1, 2.5, 8, 12, '')],
    '003': [],
}
#: Sizes of the images, (height, width): of different patches, and none of whole patches.
SIZES = {'000': (48, 64), '001': (41, 33), '002': (13, 70), '003': (20, 20)}


def write_image(path: Path, size: tuple[int, int], box: tuple[float, ...] = ()) -> None:
    """Noise, and a bright box."""
    rng = np.random.default_rng(len(str(path)))
    pixels = rng.integers(0, 90, (*size, 3))
    if box:
        left, top, right, bottom = map(int, box[:4])
        pixels[top:bottom, left:right] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def annotation(objects: list[tuple]) -> str:
    """An annotation file of VOC."""
    text = '<?xml version="1.0"?><annotation><folder>VOC</folder>'
    for *corners, hard in objects:
        text += '<object><name>thing</name>'
        text += ''.join(f'<{mark}>{int(mark == hard)}</{mark}>' for mark in ('truncated', 'difficult'))
        sides = zip(('xmin', 'ymin', 'xmax', 'ymax'), corners, strict=True)
        text += f'<bndbox>{"".join(f"<{side}>{value}</{side}>" for side, value in sides)}</bndbox></object>'
    return f'{text}</annotation>'


def write_voc(root: Path) -> None:
    """Four images, one of them without objects."""
    for name, objects in OBJECTS.items():
        write_image(root / f'JPEGImages/{name}.jpg', SIZES[name], objects[0] if objects else ())
        path = root / f'Annotations/{name}.xml'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotation(objects))
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'ImageSets/Main/trainval.txt').write_text(''.join(f'{name}\n' for name in OBJECTS) + '\n')
    (root / 'ImageSets/Main/val.txt').write_text('001 \n')


def write_coco(root: Path) -> None:
    """Four images, of which the list names two; one has a group of objects only."""
    boxes = {2: [[10.2, 11.6, 1.5, 4.0], [1.5, 2.5, 2.0, 1.7]], 5: [[0, 0, 5, 5]], 7: [], 9: [[0.4, 1.6, 3.2, 6.4]]}
    names = {number: f'COCO_train2014_{number:012d}.jpg' for number in boxes}
    for number, name in names.items():
        write_image(root / f'train2014/{name}', (30 + number, 40))
    annotations = [
        {'image_id': number, 'bbox': box, 'iscrowd': 0, 'category_id': 1}
        for number, found in boxes.items()
        for box in found
    ]
    annotations.append({'image_id': 9, 'bbox': [0, 0, 40, 30], 'iscrowd': 1, 'category_id': 1})
    (root / 'annotations').mkdir(parents=True)
    images = [{'id': number, 'file_name': name} for number, name in names.items()]
    instances = json.dumps({'images': images, 'annotations': annotations})
    (root / 'annotations/instances_train2014.json').write_text(instances)
    (root / 'coco_20k_filenames.txt').write_text(f'train2014/{names[9]}\n{names[2]}\n')
