"""Diagrams of methods: boxes, tokens, pictures in patches and arrows, on a page measured in pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.text import Text

Point = tuple[float, float]

#: Fill and edge by what a part is: trained by the loss of the method, by one of its target generator, a moving average
#: without gradients, without parameters, or a loss.
COLOURS: dict[str, tuple[str, str]] = {
    'student': ('#cfe2f7', '#1f5fa8'),
    'target': ('#fde0c0', '#c46a00'),
    'teacher': ('#e4e4e4', '#707070'),
    'plain': ('#ffffff', '#404040'),
    'loss': ('#f8d5d8', '#b3202c'),
}
INK = '#222222'


@dataclass(frozen=True)
class Area:
    """A rectangle on the page, y downwards; its sides' middles are where arrows start and end."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        """Middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        """Middle of the right side."""
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> Point:
        """Middle of the upper side."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        """Middle of the lower side."""
        return self.x + self.width / 2, self.y + self.height


class Diagram:
    """A page to draw on, with an opaque white background.

    Args:
        width: In pixels; pages of documents show pictures about 800 wide, so that nothing is scaled.
        height: In pixels.
    """

    def __init__(self, width: int = 800, height: int = 400) -> None:
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor='white')
        self._canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        #: Everything written, with the area that it must stay in, for tests.
        self.texts: list[tuple[Text, Area]] = []
        self._page = Area(0, 0, width, height)

    def box(self, x: float, y: float, width: float, height: float, text: str, kind: str = 'plain') -> Area:
        """A part of the method.

        Args:
            x: Left side.
            y: Upper side.
            width: Of the box.
            height: Of the box.
            text: The first line is bold.
            kind: One of :data:`COLOURS`.
        """
        area = Area(x, y, width, height)
        fill, edge = COLOURS[kind]
        rounding = 14 if kind == 'loss' else 5
        self.axes.add_patch(
            FancyBboxPatch(
                (x, y), width, height, f'round,pad=0,rounding_size={rounding}', fc=fill, ec=edge, lw=1.3, zorder=3
            )
        )
        lines = text.split('\n')
        step = 15
        first = y + height / 2 - step * (len(lines) - 1) / 2
        for i, line in enumerate(lines):
            weight = 'bold' if i == 0 else 'normal'
            self._write(x + width / 2, first + i * step, line, area, size=9 if i == 0 else 8.5, weight=weight)
        return area

    def text(self, x: float, y: float, text: str, align: str = 'center', colour: str = INK, size: float = 8.5) -> None:
        """A line of text, centred at a height; ``$...$`` is mathematics."""
        self._write(x, y, text, self._page, ha=align, color=colour, size=size)

    def _write(self, x: float, y: float, text: str, area: Area, **style: Any) -> None:
        options = {'ha': 'center', 'va': 'center_baseline', 'color': INK, 'zorder': 5, **style}
        self.texts.append((self.axes.text(x, y, text, **options), area))

    def arrow(self, *points: Point, colour: str = INK, dashed: bool = False) -> None:
        """A line through points, with a head at its end."""
        style: dict[str, Any] = {'color': colour, 'lw': 1.4, 'ls': (0, (4, 2.5)) if dashed else '-', 'zorder': 2}
        if len(points) > 2:
            xs, ys = zip(*points[:-1], strict=True)
            self.axes.plot(xs, ys, solid_capstyle='round', **style)
        # A dashed head would have gaps in its outline.
        start, end = np.array(points[-2], float), np.array(points[-1], float)
        if dashed:
            back = end + (start - end) / np.linalg.norm(start - end) * 6
            self.axes.plot(*zip(start, back, strict=True), **style)
            start = back
        head = '-|>,head_length=5,head_width=2.8'
        self.axes.add_patch(
            FancyArrowPatch(
                tuple(start), tuple(end), arrowstyle=head, color=colour, lw=1.4, shrinkA=0, shrinkB=1, zorder=2
            )
        )

    def tokens(self, x: float, y: float, colours: Sequence[Sequence[str | None]], size: float = 9) -> Area:
        """Squares in rows; None leaves a place empty.

        Args:
            x: Left side.
            y: Upper side.
            colours: By row and column.
            size: From one square to the next.
        """
        for i, row in enumerate(colours):
            for j, colour in enumerate(row):
                if colour is not None:
                    corner = (x + j * size + 0.5, y + i * size + 0.5)
                    self.axes.add_patch(
                        Rectangle(corner, size - 1, size - 1, fc=colour, ec='#555555', lw=0.6, zorder=3)
                    )
        return Area(x, y, size * max(map(len, colours)), size * len(colours))

    def picture(self, x: float, y: float, size: float, pixels: np.ndarray, marks: np.ndarray, colour: str) -> Area:
        """A square picture, cut into patches.

        Args:
            x: Left side.
            y: Upper side.
            size: Of the picture.
            pixels: ``[H, W, 3]``, 0 to 1.
            marks: ``[h, w]``, of a patch: 0 shown, 1 hidden, 2 hidden and predicted.
            colour: Of the patches that are predicted.
        """
        self.axes.imshow(pixels, extent=(x, x + size, y + size, y), interpolation='nearest', zorder=2, aspect='auto')
        rows, columns = marks.shape
        height, width = size / rows, size / columns
        for i in range(rows):
            for j in range(columns):
                fill = ('none', '#f2f2f2', colour)[marks[i, j]]
                corner = (x + j * width, y + i * height)
                self.axes.add_patch(Rectangle(corner, width, height, fc=fill, ec='white', lw=1.0, zorder=3))
        self.axes.add_patch(Rectangle((x, y), size, size, fc='none', ec='#555555', lw=1.0, zorder=4))
        width, height = self._page.width, self._page.height
        self.axes.set(xlim=(0, width), ylim=(height, 0))  # imshow changes them
        return Area(x, y, size, size)

    def legend(self, x: float, y: float, entries: Mapping[str, str], gap: float = 22) -> None:
        """Kinds of boxes (see :data:`COLOURS`) and what they mean, in a line."""
        for kind, text in entries.items():
            fill, edge = COLOURS[kind]
            self.axes.add_patch(Rectangle((x, y - 6), 16, 12, fc=fill, ec=edge, lw=1.2))
            self._write(x + 22, y, text, self._page, ha='left', size=8.5)
            x += 22 + self.extent(self.texts[-1][0]).width + gap

    def extent(self, text: Text) -> Area:
        """Where a text is on the page."""
        box = text.get_window_extent(self._canvas.get_renderer())
        return Area(box.x0, self._page.height - box.y1, box.width, box.height)

    def save(self, path: str | os.PathLike) -> None:
        """Write the page; an SVG has its letters as shapes, and is the same every time."""
        with mpl.rc_context({'svg.hashsalt': 'mmmim', 'svg.fonttype': 'path'}):
            metadata = {'Date': None} if str(path).endswith('.svg') else None
            self.figure.savefig(path, dpi=100, metadata=metadata)


def landscape(size: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """A picture to explain methods with, made of regions.

    Returns:
        Pixels ``[size, size, 3]``, 0 to 1, and regions ``[size, size]``: 0 sky, 1 sun, 2 far hills, 3 meadow, 4 a tree.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    regions: np.ndarray = np.zeros((size, size), dtype=int)
    regions[(x - 0.76) ** 2 + (y - 0.24) ** 2 < 0.13**2] = 1
    regions[y > 0.56 + 0.1 * np.sin(5.5 * x + 0.6)] = 2
    regions[y > 0.74 - 0.07 * np.sin(4.0 * x)] = 3
    regions[(abs(x - 0.3) < 0.03) & (y > 0.5) & (y < 0.84)] = 4
    regions[((x - 0.3) / 0.19) ** 2 + ((y - 0.42) / 0.21) ** 2 < 1] = 4
    colours = np.array(
        [[0.55, 0.76, 0.93], [0.98, 0.80, 0.32], [0.47, 0.60, 0.70], [0.62, 0.76, 0.40], [0.20, 0.45, 0.25]]
    )
    shade = 1 - 0.16 * y + 0.05 * np.sin(34 * x) * np.sin(29 * y)
    return np.clip(colours[regions] * shade[..., None], 0, 1), regions


def patch_regions(regions: np.ndarray, grid: int) -> np.ndarray:
    """The most frequent region of each patch, ``[grid, grid]``."""
    side = len(regions) // grid
    patches = regions[: side * grid, : side * grid].reshape(grid, side, grid, side).transpose(0, 2, 1, 3)
    return np.array([[np.bincount(patch.ravel()).argmax() for patch in row] for row in patches])
