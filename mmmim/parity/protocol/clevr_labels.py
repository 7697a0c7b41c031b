"""Labels of CLEVR/Count and CLEVR/Dist (VTAB, arXiv 1910.04867; PiLaMIM, table 1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.datasets.clevr import scene_labels
from mmmim.utils import InputError

#: Tasks by their names in recordings.
_TASKS = {'count': 'count', 'dist': 'distance'}


def matches(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a recording has numbers of objects and labels."""
    return any(name.startswith('in.n_objects.') for name in arrays) and any(
        name.startswith(('out.count.', 'out.dist.')) for name in arrays
    )


def replay(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels of every part, of scenes whose images are numbered in their order."""
    found = {}
    for name in arrays:
        _, task, *part = name.split('.')
        if not name.startswith('out.') or task not in _TASKS:
            continue
        numbers, depths = (arrays['.'.join([f'in.{kind}', *part])] for kind in ('n_objects', 'depth'))
        if numbers.sum() != len(depths):
            raise InputError(f'The recording has {len(depths)} depths of {numbers.sum()} objects.')
        objects = [{'pixel_coords': [0.0, 0.0, float(depth)]} for depth in depths]
        ends = numbers.cumsum()
        names = [f'{i:09d}.png' for i in range(len(numbers))]
        scenes = [
            {'image_filename': image, 'objects': objects[end - number : end]}
            for image, number, end in zip(names, numbers, ends, strict=True)
        ]
        labels = scene_labels(scenes, _TASKS[task])
        found[name] = np.array([labels[image] for image in names])
    return found
