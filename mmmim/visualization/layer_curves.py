"""Scores of the layers of an encoder as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

#: Scores of which less is better.
ERRORS = ('rmse', 'abs_rel', 'mean', 'median')


def draw_layer_curves(records: Sequence[Mapping[str, Any]], path: str | os.PathLike, title: str) -> None:
    """Draw a panel per score over the blocks; those that differ in their prefix only share one.

    Args:
        records: A dict for each block: ``layer``, its number, and ``scores`` by name.
        path: The picture to write.
        title: Title above all panels.
    """
    panels: dict[str, list[str]] = {}
    for name in records[0]['scores']:
        panels.setdefault(name.rpartition('/')[2], []).append(name)
    figure = Figure(figsize=(0.6 + 4.2 * len(panels), 3.8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    layers = [record['layer'] for record in records]
    for ax, (score, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        curves = {name: [record['scores'][name] for record in records] for name in names}
        for i, values in enumerate(curves.values()):
            # Scores are often the same: the later ones are thinner, so that all are seen.
            ax.plot(layers, values, 'o-', color=f'C{i}', linewidth=3.5 - 2 * min(i, 1), markersize=7 - 3 * min(i, 1))
            best = (min if score in ERRORS else max)(range(len(values)), key=values.__getitem__)
            if i == 0:
                note = {'textcoords': 'offset points', 'xytext': (0, 7), 'ha': 'center', 'fontsize': 9}
                ax.annotate(f'{values[best]:.2f}', (layers[best], values[best]), **note)
        ax.set_title(score, fontsize=11)
        ax.set_xlabel('block', fontsize=9)
        ax.margins(x=0.08, y=0.15)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        ax.tick_params(labelsize=8)
        ax.grid(True, alpha=0.3, linewidth=0.6)
        ax.spines[['top', 'right']].set_visible(False)
        if len(names) > 1:
            ax.legend(list(curves), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=13, fontweight='bold')
    figure.savefig(path, dpi=110)
