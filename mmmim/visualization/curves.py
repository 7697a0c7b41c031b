"""Training curves from the log files of mmengine."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, NullFormatter

#: Iterations and values of each logged quantity.
Curves = dict[str, tuple[np.ndarray, np.ndarray]]

_NOT_A_CURVE = {'iter', 'epoch', 'step', 'time', 'data_time', 'memory'}
_TITLES = {
    'base_lr': 'learning rate',
    'lr': 'learning rate',
    'grad_norm': 'gradient norm',
    'images_per_s': 'speed',
}
_UNITS = {'images_per_s': 'images / s'}


def read_scalars(work_dir: str | os.PathLike) -> Curves:
    """Read what the runs in a work folder logged (``*/vis_data/scalars.json``).

    Where runs overlap, after resuming from an earlier checkpoint, the later run counts. Validation metrics are named
    ``val/...``.
    """
    train: list[dict[str, float]] = []
    val: list[dict[str, float]] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):  # the folders are named by time
        new_train, new_val = _read_run(path)
        if new_train:
            start = min(row['iter'] for row in new_train)
            train = [row for row in train if row['iter'] < start] + new_train
            val = [row for row in val if row['iter'] < start] + new_val
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(train + val, key=lambda row: row['iter']):
        for key, value in row.items():
            if key.removeprefix('val/') not in _NOT_A_CURVE and math.isfinite(value):
                curves.setdefault(key, []).append((row['iter'], value))
    return {key: tuple(np.array(points).T) for key, points in curves.items()}


def _read_run(path: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    train, val = [], []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the line that a killed run was writing
            continue
        row = {k: v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        # Only rows of training carry `iter`; the `step` of a validation is an iteration, or an epoch where rows of
        # training carry their epoch.
        if 'iter' in row:
            train.append(row)
        elif row.get('step'):
            ends = [done['iter'] for done in train if done.get('epoch') == row['step']]
            step = max(ends) if ends else row['step']
            val.append({'iter': step, **{f'val/{key.removeprefix("val/")}': value for key, value in row.items()}})
    return train, val


def draw_curves(runs: Mapping[str, Curves], path: str | os.PathLike, title: str | None = None) -> None:
    """Draw one panel per quantity: a light line of what was logged and a smoothed one.

    Args:
        runs: Curves by name of run, see :func:`read_scalars`.
        path: The picture to write.
        title: Above all panels.
    """
    panels = _panels(runs)
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout=layout)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax, key in zip(axes, panels, strict=False):
        _draw_panel(ax, key, runs)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=13, fontweight='bold')
    if len(runs) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside lower center', ncols=min(len(runs), 4), frameon=False)
    figure.savefig(path, dpi=110)


def _panels(runs: Mapping[str, Curves]) -> list[str]:
    keys = list(dict.fromkeys(key for curves in runs.values() for key in curves))
    if 'base_lr' in keys:  # `lr` is that of the first parameter group, which may have a factor
        keys = [key for key in keys if key != 'lr']

    def rank(key: str) -> int:
        if key.startswith('val/'):
            return 6
        tests = [key == 'loss', 'loss' in key, key == 'grad_norm', key.endswith('lr'), 'momentum' in key]
        return tests.index(True) if any(tests) else 7 if key == 'images_per_s' else 5

    return sorted(keys, key=rank)


def _draw_panel(ax: Axes, key: str, runs: Mapping[str, Curves]) -> None:
    set_by_schedule = key.endswith('lr') or 'momentum' in key
    smooth_it = not set_by_schedule and not key.startswith('val/')
    drawn = []
    for index, (name, curves) in enumerate(runs.items()):
        if key not in curves:
            ax.plot([], [], color=f'C{index % 10}', label=name)  # the legend is made from one panel
            continue
        steps, values = curves[key]
        color = f'C{index % 10}'
        marker = 'o' if key.startswith('val/') or len(steps) == 1 else None
        if smooth_it and len(steps) >= 10:
            smoothed = _smooth(values)
            ax.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            ax.plot(steps, smoothed, color=color, linewidth=1.7, label=name)
        else:
            ax.plot(steps, values, color=color, linewidth=1.5, marker=marker, markersize=3.5, label=name)
        drawn.append(values)
    values = np.concatenate(drawn)
    if ('loss' in key or key == 'grad_norm') and values.min() > 0 and values.max() > 20 * values.min():
        ax.set_yscale('log')
    else:
        _focus(ax, key, values)
    ax.set_title(_TITLES.get(key, key.replace('val/', 'validation: ', 1)), fontsize=11)
    ax.set_xlabel('iteration', fontsize=9)
    ax.set_ylabel(_UNITS.get(key, ''), fontsize=9)
    ax.xaxis.set_major_formatter(EngFormatter(sep=''))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=8)
    if ax.get_yscale() == 'linear':
        ax.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3) if 'lr' in key else (-4, 5), useOffset=False)
    ax.grid(True, which='major', alpha=0.3, linewidth=0.6)
    ax.spines[['top', 'right']].set_visible(False)


def _focus(ax: Axes, key: str, values: np.ndarray) -> None:
    # A few extreme values, such as the first slow iterations, must not flatten the rest.
    if key == 'images_per_s' or key.endswith('lr'):
        ax.set_ylim(bottom=0)
    elif 'loss' in key or key == 'grad_norm':
        low, high = np.quantile(values, [0.005, 0.995])
        if len(values) > 200 and values.max() > high + 2 * (high - low):
            ax.set_ylim(top=high + 0.2 * (high - low))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over a thirtieth of the curve, fewer values towards the ends."""
    half = max(1, len(values) // 60)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    reach = np.minimum(half, index)  # symmetric at the steep start
    start, stop = index - reach, np.minimum(index + reach + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)
