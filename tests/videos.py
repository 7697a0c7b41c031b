"""Tiny videos in DAVIS's layout."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmmim.datasets.davis import ANNOTATIONS, FRAMES, LISTS, save_indices


def write_video(root: Path, name: str, annotations: Sequence[np.ndarray], frame_size: tuple[int, int] | None = None):
    """A video whose objects ``[H, W]`` are brighter than the noise that they lie on, the higher the index."""
    rng = np.random.default_rng(len(name))
    for number, indices in enumerate(annotations):
        shown = np.where(indices == 255, 0, indices)[..., None] * 60 + rng.integers(0, 40, (*indices.shape, 3))
        image = Image.fromarray(np.minimum(shown, 255).astype(np.uint8))
        if frame_size is not None:
            image = image.resize(frame_size[::-1])
        for kind in (FRAMES, ANNOTATIONS):
            (root / kind / name).mkdir(parents=True, exist_ok=True)
        image.save(root / FRAMES / name / f'{number:05d}.jpg', quality=95)
        save_indices(indices.astype(np.uint8), root / ANNOTATIONS / name / f'{number:05d}.png')


def write_list(root: Path, *names: str, split: str = 'val') -> None:
    """The list of sequences."""
    (root / LISTS).mkdir(parents=True, exist_ok=True)
    (root / LISTS / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))


def moving_boxes(frames: int, size: tuple[int, int] = (32, 48), objects: int = 2) -> list[np.ndarray]:
    """Boxes that move to the right, each in a row of its own."""
    height = size[0] // (2 * objects)
    found = []
    for t in range(frames):
        indices = np.zeros(size, np.uint8)
        for index in range(1, objects + 1):
            top = (2 * index - 2) * height
            indices[top : top + height, 4 + 2 * t : 4 + 2 * t + size[1] // 4] = index
        found.append(indices)
    return found
