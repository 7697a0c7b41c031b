"""Scores of several methods as a picture."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def draw_bars(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    arms: Mapping[str, Iterable[str]],
    scores: Sequence[str],
    path: str | os.PathLike,
    title: str,
) -> None:
    """Draw a panel per subset and score: a bar per arm with its mean, and a dot per seed.

    Args:
        results: Values by subset, arm and score.
        arms: Names of the arms by subset, in the order of drawing.
        scores: Names of the scores to draw; arms without a score have no bar.
        path: The picture to write.
        title: Title above all panels.
    """
    rows, columns = len(results), len(scores)
    height = 0.8 + sum(0.42 * len(found) + 0.7 for found in results.values())
    figure = Figure(figsize=(2.2 + 4.2 * columns, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    ratios = [0.42 * len(found) + 0.7 for found in results.values()]
    axes: Any = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    for row, (subset, found) in enumerate(results.items()):
        names = [arm for arm in arms[subset] if arm in found]
        for column, score in enumerate(scores):
            ax = axes[row][column]
            for place, name in enumerate(names):
                values = list(found[name].get(score, []))
                if not values:
                    continue
                mean = statistics.fmean(values)
                ax.barh(place, mean, color=f'C{place % 10}', alpha=0.55)
                ax.plot(values, [place] * len(values), 'o', color='black', markersize=3, alpha=0.7)
                ax.text(max(values), place, f'  {mean:.3f}', va='center', fontsize=9)
            ax.set_yticks(range(len(names)), names if column == 0 else [''] * len(names), fontsize=9)
            ax.set_ylim(len(names) - 0.5, -0.5)  # the first at the top
            ax.set_xlim(0, max(max(values) for arm in found.values() for values in [arm.get(score) or [0.0]]) * 1.2)
            ax.set_title(f'{subset}: {score.replace("_", " ")}', fontsize=10)
            ax.tick_params(axis='x', labelsize=8)
            ax.grid(True, axis='x', alpha=0.3, linewidth=0.6)
            ax.spines[['top', 'right']].set_visible(False)
    figure.suptitle(title, fontsize=13, fontweight='bold')
    figure.savefig(path, dpi=110)
