"""Pictures of patches that are like a patch (Latent MIM, arXiv 2407.15837, figure 12)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from mmmim.evaluation.label_free.clusters import spread
from mmmim.evaluation.label_free.neighbours import (
    Nearest,
    nearest_patches,
    neighbourhoods,
    quantile_thresholds,
    similarities,
)

from .attention import mark_patches
from .channels import channel_note
from .feature_pictures import PatchFeatures
from .found import grey, paint_mask
from .image_table import draw_image_table

Place = tuple[int, int]


def random_places(grid: Place, number: int, seed: int) -> list[Place]:
    """Patches that random pixels lie in, as (row, column); at most all patches, each once."""
    patches = grid[0] * grid[1]
    chosen = np.random.default_rng(seed).choice(patches, min(number, patches), replace=False)
    return [(int(patch) // grid[1], int(patch) % grid[1]) for patch in chosen]


def _number(place: Place, grid: Place) -> int:
    return place[0] * grid[1] + place[1]


def draw_neighbourhoods(
    examples: Sequence[PatchFeatures],
    names: Sequence[str],
    places: Sequence[Sequence[Place]],
    thresholds: Sequence[float],
    shares: Sequence[float],
    path: str | os.PathLike,
    model: str,
) -> None:
    """Draw a row per query: the image with the query, and the patches of it that are similar enough.

    Args:
        examples: Features of each image.
        names: Names of the images.
        places: Queries in each image, (row, column) of patches.
        thresholds: Similarities, from the left to the right.
        shares: Shares of the patches to choose in their place; none for ``thresholds``.
        path: The picture to write.
        model: Name of the model, for the title.
    """
    rows, row_names = [], []
    for example, name, asked in zip(examples, names, places, strict=True):
        found = similarities(example.patches.double().numpy(), [_number(place, example.grid) for place in asked])
        for place, similarity in zip(asked, found, strict=True):
            limits = quantile_thresholds(similarity, shares).tolist() if shares else thresholds
            masks = neighbourhoods(similarity.reshape(example.grid), limits)
            rows.append([_marked(example, place), *(_marked(example, place, mask) for mask in masks)])
            row_names.append(f'{name} {place[0]}, {place[1]}')
    what = (
        'the share of the patches, the most similar ones, that is red'
        if shares
        else 'the cosine similarity of red ones'
    )
    draw_image_table(
        rows,
        path,
        ['query', *([f'{share:.0%}' for share in shares] or [f'≥ {threshold:g}' for threshold in thresholds])],
        row_names,
        f'Neighbourhoods of patches of {model}, {examples[0].size} px',
        f'Green: the patch that is asked about, row and column. Above: {what}.{channel_note(examples[0].channels)}',
    )


def _marked(example: PatchFeatures, place: Place, mask: np.ndarray | None = None) -> np.ndarray:
    """The image with a frame around a patch, and, without colours, a mask ``[h, w]`` in red."""
    image, cell = example.image, example.size // example.grid[0]
    if mask is not None:
        image = paint_mask(grey(image), spread(mask, (cell, cell), image.shape[:2]))
    return mark_patches(image, [place], cell)


def nearest_elsewhere(
    examples: Sequence[PatchFeatures], places: Sequence[Sequence[Place]], number: int
) -> list[list[list[Nearest]]]:
    """The most similar patches of other images, at most one of each.

    Args:
        examples: Features of each image.
        places: Queries in each image.
        number: How many to give, at most.

    Returns:
        For each image, for each of its queries; numbers of images are those of ``examples``.
    """
    features = [example.patches.double().numpy() for example in examples]
    found = []
    for i, (example, asked) in enumerate(zip(examples, places, strict=True)):
        others = [j for j in range(len(examples)) if j != i]
        queries = features[i][[_number(place, example.grid) for place in asked]]
        nearest = nearest_patches(queries, [features[j] for j in others], number)
        found.append([[Nearest(others[one.image], one.patch, one.similarity) for one in each] for each in nearest])
    return found


def draw_nearest(
    examples: Sequence[PatchFeatures],
    names: Sequence[str],
    places: Sequence[Sequence[Place]],
    found: Sequence[Sequence[Sequence[Nearest]]],
    path: str | os.PathLike,
    model: str,
) -> None:
    """Draw a row per query: the image with the query, and other images with their most similar patch.

    Args:
        examples: Features of each image.
        names: Names of the images.
        places: Queries in each image.
        found: What :func:`nearest_elsewhere` gives.
        path: The picture to write.
        model: Name of the model, for the title.
    """
    rows, row_names = [], []
    for example, name, asked, of_image in zip(examples, names, places, found, strict=True):
        for place, nearest in zip(asked, of_image, strict=True):
            others = [_marked(examples[one.image], divmod(one.patch, examples[one.image].grid[1])) for one in nearest]
            rows.append([_marked(example, place), *others])
            row_names.append(f'{name} {place[0]}, {place[1]}')
    draw_image_table(
        rows,
        path,
        ['query', *(f'nearest {i}' for i in range(1, len(rows[0])))],
        row_names,
        f'Nearest patches of other images by {model}, {examples[0].size} px',
        'Green: the patch that is asked about, and in each other image the one with the greatest cosine similarity; '
        f'the most similar ones first.{channel_note(examples[0].channels)}',
    )
