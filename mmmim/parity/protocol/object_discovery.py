"""Object discovery: TokenCut (arXiv 2202.11539), LOST (arXiv 2109.14279), DINO's attention, and boxes of VOC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.datasets.boxes.voc import read_objects
from mmmim.evaluation.label_free.boxes import box_iou, box_of
from mmmim.evaluation.label_free.discovery import degrees, largest_component, lost, strongest, tokencut

#: An object in the words about the recorded boxes, such as ``(48,240,195,371; truncated)``.
_OBJECT = re.compile(r'\((\d+),\s*(\d+),\s*(\d+),\s*(\d+)(?:; (truncated|difficult))?\)')


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has tokens of images, by case."""
    return 'cases' in about and any(name.endswith('.tokens') for name in arrays)


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every method on every case, and what comes with them."""
    found: dict[str, np.ndarray] = {}
    for case, sizes in about['cases'].items():
        found |= {f'{case}.{name}': value for name, value in _case(case, sizes, about['config']['eps'], arrays)}
    objects = read_objects(_annotation(about['keys']['voc_boxes_all']['meaning']), 'the recorded annotation')
    return {
        **found,
        'iou': box_iou(arrays['boxes_a'], arrays['boxes_b']),
        'voc_boxes_all': np.array([each.box for each in objects]),
        'voc_boxes_easy': np.array([each.box for each in objects if not each.hard]),
    }


def _annotation(words: str) -> bytes:
    """An annotation file of VOC with the objects that the words about its boxes list."""
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    objects = []
    for *corners, mark in _OBJECT.findall(words):
        box = ''.join(f'<{side}>{corner}</{side}>' for side, corner in zip(sides, corners, strict=True))
        objects.append(f'<object>{f"<{mark}>1</{mark}>" if mark else ""}<bndbox>{box}</bndbox></object>')
    return f'<annotation>{"".join(objects)}</annotation>'.encode()


def _case(
    case: str, sizes: Mapping[str, Any], eps: float, arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """What a recording has of one image, by its name there."""
    grid, size = (sizes['h'], sizes['w']), (sizes['image_height'], sizes['image_width'])
    cell = (sizes['patch_size'],) * 2
    features: np.ndarray = arrays[f'{case}.tokens'][1:].astype(np.float64)
    rows: list[tuple[str, Any]] = [('lost_degree', degrees(features @ features.T))]
    for tau in sizes['taus']:
        for ending, weighted in (('', False), ('_weighted', True)):
            one, name = tokencut(features, grid, tau, eps, weighted), f'tokencut_tau{tau}{ending}'
            rows += [
                (f'{name}.box', box_of(one.mask, cell, size)),
                (f'{name}.mask', one.mask),
                (f'{name}.seed', one.seed),
                (f'{name}.eigenvector', one.values),
                (f'{name}.components', one.components),
            ]
    for k in sizes['lost_k']:
        one = lost(features, grid, k)
        rows += [(f'lost_k{k}.box', box_of(one.mask, cell, size)), (f'lost_k{k}.seed', one.seed)]
    attention = arrays[f'{case}.cls_attention']
    masks = strongest(attention).reshape(-1, *grid)
    rows += [('mass60', masks), ('dinoseg_box', np.stack([_slipped_box(mask, cell) for mask in masks]))]
    return [(name, np.asarray(value)) for name, value in rows]


def _slipped_box(mask: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """The box as the recorded code has it: never of the last component, of the background where there is one only."""
    from scipy.ndimage import label

    components, number = label(mask)
    return box_of(largest_component(components, np.arange(1, number) if number > 1 else np.zeros(1, int)), cell)
