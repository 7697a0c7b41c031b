"""Images side by side, with titles."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mmmim.utils.names import printable

#: Inches: width of an image, space between, and lines of text.
_CELL, _GAP, _TITLE, _HEADING, _CAPTION = 1.8, 0.05, 0.35, 0.25, 0.32
_LONGEST_NAME = 24


def draw_image_table(
    rows: Sequence[Sequence[np.ndarray]],
    path: str | os.PathLike,
    columns: Sequence[str],
    names: Sequence[str],
    title: str,
    caption: str,
    aspect: float = 1.0,
) -> None:
    """Draw a row of images per example.

    Images are scaled without interpolation: every patch stays a square of one colour.

    Args:
        rows: Images ``[h, w, 3]``, uint8 or in [0, 1]; all rows of the same length.
        path: The picture to write.
        columns: Heading of each column, one or two lines.
        names: Names of the rows.
        title: Title above all rows.
        caption: What is to be seen, below all; its lines are broken here.
        aspect: Height of the place of an image over its width.
    """
    cell = _CELL * aspect
    lines = max(column.count('\n') + 1 for column in columns)
    width = len(columns) * (_CELL + _GAP) + _GAP + _HEADING
    caption_lines = textwrap.wrap(caption, int(width * 14))
    title_lines = textwrap.wrap(title, int(width * 9))
    top = _TITLE + 0.18 * (len(title_lines) - 1) + 0.2 * lines + 0.08
    bottom = _CAPTION + 0.16 * (len(caption_lines) - 1)
    height = top + len(rows) * (cell + _GAP) + bottom
    figure = Figure(figsize=(width, height))
    heading = '\n'.join(title_lines)
    figure.text(0.5, 1 - 0.08 / height, heading, ha='center', va='top', fontsize=11, fontweight='bold')
    figure.text(_HEADING / width, 0.08 / height, '\n'.join(caption_lines), va='bottom', fontsize=8, color='0.3')
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        low = (height - top - (i + 1) * (cell + _GAP) + _GAP) / height
        middle = low + cell / height / 2
        figure.text(
            0.12 / width, middle, _shorten(name), rotation=90, ha='center', va='center', fontsize=8, parse_math=False
        )
        for j, (image, column) in enumerate(zip(row, columns, strict=True)):
            left = (_HEADING + j * (_CELL + _GAP)) / width
            ax = figure.add_axes((left, low, _CELL / width, cell / height))
            ax.imshow(image, interpolation='nearest')
            ax.set_axis_off()
            if i == 0:
                ax.set_title(column, fontsize=9, pad=4)
    figure.savefig(path, dpi=160)


def _shorten(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f'...{name[3 - _LONGEST_NAME :]}'
