"""Patches of images in the colours of their clusters (Latent MIM, arXiv 2407.15837, figures 6, 9, 10 and 11)."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mmmim.evaluation.label_free.clusters import Linkage, PatchTree, spread

from .channels import channel_note
from .colours import colour_sequence
from .feature_pictures import PatchFeatures
from .found import paint_clusters
from .image_table import draw_image_table

#: Of each linkage, what captions call it.
LINKAGES = {'ward': "Ward's linkage on features of length 1", 'average': 'average linkage by cosine distance'}


def tree_of(example: PatchFeatures, linkage: Linkage) -> PatchTree:
    """The clustering of the patches of an image."""
    return PatchTree(example.patches.double().numpy(), example.grid, linkage)


def clusters_over(example: PatchFeatures, labels: np.ndarray) -> np.ndarray:
    """Clusters ``[h, w]`` as colours over the image."""
    cell = (example.size / example.grid[0], example.size / example.grid[1])
    return paint_clusters(example.image, spread(labels, cell, example.image.shape[:2]))


def draw_clusters(
    examples: Sequence[PatchFeatures],
    names: Sequence[str],
    linkage: Linkage,
    clusters: Sequence[int],
    heights: Sequence[float],
    path: str | os.PathLike,
    model: str,
) -> None:
    """Draw a row per image: the image, and the clusters of its patches at several cuts of one tree.

    Args:
        examples: Features of each image.
        names: Names of the images.
        linkage: 'ward' or 'average'.
        clusters: Numbers of clusters to cut at.
        heights: Heights to cut at, beside them.
        path: The picture to write.
        model: Name of the model, for the title.
    """
    rows = []
    for example in examples:
        tree = tree_of(example, linkage)
        cuts = [*(tree.cut(number) for number in clusters), *(tree.cut_at(height) for height in heights)]
        rows.append([example.image, *(clusters_over(example, cut) for cut in cuts)])
    draw_image_table(
        rows,
        path,
        ['input', *(f'{number} clusters' for number in clusters), *(f'height {height:g}' for height in heights)],
        names,
        f'Clusters of the patches of {model}, {examples[0].size} px',
        f'Nested cuts of one tree for each image, {LINKAGES[linkage]}. '
        'The largest is blue, then orange, green, ...; colours do not compare between images.'
        f'{channel_note(examples[0].channels)}',
    )


def draw_patch_map(
    example: PatchFeatures,
    labels: np.ndarray,
    maps: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    title: str,
    caption: str,
) -> None:
    """Draw the patches of an image as dots in the plane, in the colours of their clusters, beside the image.

    Args:
        example: Features of the image.
        labels: Number of the cluster of every patch, ``[h, w]``.
        maps: Coordinates of the patches, ``[N, 2]``, by what made them.
        path: The picture to write.
        title: Title above all panels; lines that are too long are broken here.
        caption: What is to be seen, below.
    """
    number = int(labels.max()) + 1
    colours = colour_sequence(number)
    side = 4.2
    figure = Figure(
        figsize=(side * (2 + len(maps)), side + 1.1), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    )
    axes = figure.subplots(1, 2 + len(maps))
    pictures = {'input': example.image, f'{number} clusters': clusters_over(example, labels)}
    for ax, (name, picture) in zip(axes[:2], pictures.items(), strict=True):
        ax.imshow(picture, interpolation='nearest')
        ax.set_axis_off()
        ax.set_title(name, fontsize=10)
    order = np.random.default_rng(0).permutation(labels.size)  # so that no cluster lies on top
    for ax, (name, coordinates) in zip(axes[2:], maps.items(), strict=True):
        x, y = coordinates[order].T
        size = float(np.clip(9000 / labels.size, 4, 40))
        ax.scatter(x, y, s=size, c=colours[labels.ravel()[order]], alpha=0.85, linewidths=0)
        ax.set_box_aspect(1)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_color('0.8')
        ax.set_title(name, fontsize=10)
    width = 30 * (2 + len(maps))
    figure.suptitle('\n'.join(textwrap.wrap(title, width)), fontsize=11, fontweight='bold')
    figure.supxlabel('\n'.join(textwrap.wrap(caption, 3 * width // 2)), fontsize=8, color='0.3')
    figure.savefig(path, dpi=140)
