"""Pictures of corrupted images, and of what they do to a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .image_table import draw_image_table


def draw_corruptions(record: Mapping[str, Any], baseline: Mapping[str, Any] | None, path: str | os.PathLike) -> None:
    """Draw a panel per corruption: top-1 accuracy by severity, from clean images on, and the calibration error.

    Args:
        record: What :class:`mmmim.CorruptionsTestLoop` writes to ``corruptions.json``.
        baseline: Record of another classifier, drawn dashed; None without one.
        path: The picture to write.
    """
    names = list(record['corrupted'])
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.5 * columns + 0.6, 2.0 * rows + 1.1), layout=ConstrainedLayoutEngine(h_pad=0.08))
    axes: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    handles: list[Any] = []
    for name, ax in zip(names, axes.flat, strict=False):
        handles = []
        for source, style, label in ((record, '-', ''), (baseline, '--', ', baseline')):
            if source is None:
                continue
            severities = [0, *map(int, source['corrupted'][name])]
            points = [source['clean'], *source['corrupted'][name].values()]
            for key, what, colour in (('top1', 'top-1', 'C0'), ('ece', 'calibration error', 'C3')):
                values = [point[key] for point in points]
                handles += ax.plot(
                    severities, values, style, marker='.', color=colour, label=f'{what}{label}', linewidth=1.3
                )
        ax.set_title(name.replace('_', ' '), fontsize=9)
        ax.set_ylim(0, 100)
        ax.set_xticks(severities, ['clean', *map(str, severities[1:])], fontsize=7)
        ax.tick_params(axis='y', labelsize=7)
        ax.grid(True, alpha=0.3, linewidth=0.6)
        ax.spines[['top', 'right']].set_visible(False)
    figure.suptitle(f'Accuracy and calibration (%) by severity, {record["images"]} images', fontsize=11)
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def draw_corruption_sheet(pictures: Mapping[tuple[str | None, int], np.ndarray], path: str | os.PathLike) -> None:
    """Draw an image under corruptions, a row each, beside itself.

    Args:
        pictures: RGB, ``[H, W, 3]`` uint8, by corruption and severity; under None the image as it is.
        path: The picture to write.
    """
    clean = next(image for (name, _), image in pictures.items() if name is None)
    names = list(dict.fromkeys(name for name, _ in pictures if name is not None))
    severities = sorted({severity for name, severity in pictures if name is not None})
    draw_image_table(
        [[clean, *(pictures[name, severity] for severity in severities)] for name in names],
        path,
        ['clean', *(f'severity {severity}' for severity in severities)],
        [name.replace('_', ' ') for name in names],
        'Corruptions',
        'Frost is a generated texture. Lengths are those of ImageNet-C times the shorter side over 224 pixels.',
        aspect=clean.shape[0] / clean.shape[1],
    )
