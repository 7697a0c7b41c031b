"""Pictures of patch features (CAPI, arXiv 2502.08769, figures 7, 12 and 13)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.datasets.squares import read_square
from mmmim.features import FeatureExtractor

from .channels import as_rgb, channel_note, to_unit
from .image_table import draw_image_table
from .pca import LIMIT, pca_components, to_coolwarm, to_rgb


@dataclass
class PatchFeatures:
    """An image at one size: RGB ``image [s, s, 3]`` uint8, and ``patches [N, D]`` on the CPU of a ``grid (h, w)``.

    ``channels`` is the number of those of the image that the encoder saw.
    """

    image: np.ndarray
    patches: Tensor
    grid: tuple[int, int]
    channels: int = 3

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.image)


def picture(image: Tensor, preprocessor: Any) -> np.ndarray:
    """An image ``[C, H, W]`` as the encoder's data preprocessor takes it, as RGB ``[H, W, 3]`` uint8."""
    if image.dtype != torch.uint8:
        unit = to_unit(image, preprocessor.mean.to(image.device), preprocessor.std.to(image.device))
        image = (255 * unit).round().to(torch.uint8)
    return as_rgb(image).permute(1, 2, 0).cpu().numpy()


def patch_features(extractor: FeatureExtractor, path: str, size: int, layer: int) -> PatchFeatures:
    """Read an image as a square of ``size`` pixels and extract its patch features.

    Raises:
        InputError: The image cannot be read, or there is no such layer.
    """
    channels = extractor.in_channels
    image = torch.from_numpy(read_square(path, size, channels, extractor.window).copy()).permute(2, 0, 1)
    features = extractor(extractor.preprocess(image.unsqueeze(0)), layers=(layer,))
    shown = picture(image, extractor.preprocessor)
    return PatchFeatures(shown, features.patches[0][0].float().cpu(), features.grid, channels)


def image_components(examples: Sequence[PatchFeatures], number: int) -> list[Tensor]:
    """Components of each image on its own, as maps ``[h, w, number]``."""
    return [pca_components(example.patches, number).unflatten(0, example.grid) for example in examples]


def joint_components(examples: Sequence[PatchFeatures], number: int) -> list[Tensor]:
    """Components of all images together, as maps ``[h, w, number]``: the same colour means the same everywhere."""
    components = pca_components(torch.cat([example.patches for example in examples]), number)
    parts = components.split([len(example.patches) for example in examples])
    return [part.unflatten(0, example.grid) for part, example in zip(parts, examples, strict=True)]


_COMPONENTS = {'image': image_components, 'joint': joint_components}
_WORDS = {'image': 'per image', 'joint': 'joint'}
_MODES = {'image': ['image'], 'joint': ['joint'], 'both': ['image', 'joint']}


def draw_resolutions(
    examples: Sequence[Sequence[PatchFeatures]], names: Sequence[str], mode: str, path: str | os.PathLike, model: str
) -> None:
    """Draw the first three components as RGB: a row per image, a column per size.

    Args:
        examples: Features of each image in each size.
        names: Names of the images.
        mode: 'image', 'joint' or 'both'.
        path: The picture to write.
        model: Name of the model, for the title.

    Raises:
        InputError: There are not enough patches.
    """
    by_size = list(zip(*examples, strict=True))
    columns, pictures = ['input'], [[max(example, key=lambda e: e.size).image for example in examples]]
    for kind in _MODES[mode]:
        for same_size in by_size:
            columns.append(f'{_WORDS[kind]}\n{same_size[0].size} px')
            pictures.append([to_rgb(maps) for maps in _COMPONENTS[kind](same_size, 3)])
    draw_image_table(
        list(zip(*pictures, strict=True)),
        path,
        columns,
        names,
        f'Patch features of {model}',
        f'First three principal components as red, green and blue, ±{LIMIT} standard deviations. {_explain(mode)}'
        f'{channel_note(examples[0][0].channels)}',
    )


def draw_channels(
    examples: Sequence[PatchFeatures],
    names: Sequence[str],
    mode: str,
    number: int,
    path: str | os.PathLike,
    model: str,
) -> None:
    """Draw the first components one by one: a row per image.

    Args:
        examples: Features of each image, all of one size.
        names: Names of the images.
        mode: 'image' and 'both' show single components of each image on its own, 'joint' those of all together; 'both'
            adds the joint RGB.
        number: Number of single components.
        path: The picture to write.
        model: Name of the model, for the title.

    Raises:
        InputError: There are not enough patches.
    """
    first, *others = _MODES[mode]
    maps = _COMPONENTS[first](examples, max(number, 3))
    columns = ['input', f'1 to 3 as RGB\n{_WORDS[first]}', *(f'component\n{i + 1}' for i in range(number))]
    rows = [
        [example.image, to_rgb(m[..., :3]), *(to_coolwarm(m[..., i]) for i in range(number))]
        for example, m in zip(examples, maps, strict=True)
    ]
    for kind in others:
        columns.append(f'1 to 3 as RGB\n{_WORDS[kind]}')
        for row, m in zip(rows, _COMPONENTS[kind](examples, 3), strict=True):
            row.append(to_rgb(m))
    draw_image_table(
        rows,
        path,
        columns,
        names,
        f'Patch features of {model}, {examples[0].size} px',
        f'Principal components from blue (-{LIMIT} standard deviations) to red (+{LIMIT}). {_explain(mode)}'
        f'{channel_note(examples[0].channels)}',
    )


def _explain(mode: str) -> str:
    words = {
        'image': 'Per image: of its own patches, so that colours do not compare between images.',
        'joint': 'Joint: of the patches of all images, so that the same colour means the same everywhere.',
    }
    return ' '.join(words[kind] for kind in _MODES[mode])
