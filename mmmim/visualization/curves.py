"""Training curves from the log files of mmengine."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from mmmim.evaluation.measures.expected import Band

#: Iterations and values of each logged quantity.
Curves = dict[str, tuple[np.ndarray, np.ndarray]]

#: What hooks log beside the training, through ``runner.visualizer.add_scalars({'probe/...': x}, step=iteration)``, and
#: the names of its pictures.
_PICTURES = {'probe/': 'probes', 'health/': 'health'}
_BRANCHES = ('student', 'teacher')
_NOT_A_CURVE = {'iter', 'epoch', 'step', 'time', 'data_time', 'memory'}
_TITLES = {
    'base_lr': 'learning rate',
    'lr': 'learning rate',
    'grad_norm': 'gradient norm',
    'images_per_s': 'speed',
}
_MEASURES = {'knn': 'k-NN', 'linear': 'linear probe', 'rankme': 'RankMe', 'cosine': 'cosine similarity'}
_FEATURES = {'cls': 'CLS', 'miou': 'mIoU'}
#: Of a branch of the model: ``health/<branch>_<quantity>``.
_OF_A_BRANCH = ('target_entropy', 'prototypes_in_use', 'positional_share')
_UNITS = {'images_per_s': 'images / s'}
#: Longer curves are drawn without a marker per value, and those of a training smoothed.
_MAX_MARKERS = 60


def read_scalars(work_dir: str | os.PathLike) -> Curves:
    """Read what the runs in a work folder logged (``*/vis_data/scalars.json``).

    Where runs overlap, after resuming from an earlier checkpoint, the later run counts. Validation metrics are named
    ``val/...``; probes and health, ``probe/...`` and ``health/...``, keep their names.
    """
    rows: list[dict[str, float]] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):  # the folders are named by time
        if not path.is_file():  # opening a pipe would wait for ever
            continue
        train, others = _read_run(path)
        if train:
            start = min(row['iter'] for row in train)
            rows = [row for row in rows if row['iter'] < start] + train + others
    curves: dict[str, dict[float, float]] = {}
    for row in rows:
        for key, value in row.items():
            if key.removeprefix('val/') not in _NOT_A_CURVE:
                # A resumed run may probe its first weights again: one value per iteration, the later one.
                curves.setdefault(key, {})[row['iter']] = value
    return {key: tuple(np.array(sorted(points.items())).T) for key, points in curves.items()}


def _read_run(path: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Rows of training, and of anything else; each with its iteration as ``iter``."""
    train, others = [], []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the line that a killed run was writing, or damage
            continue
        if not isinstance(row, dict):
            continue
        row = {k: v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        row = {k: v for k, v in row.items() if abs(v) <= sys.float_info.max}
        # Of the rest, only rows of training carry `iter`. The `step` of probes and health is an iteration; that of a
        # validation too, or an epoch where rows of training carry their epoch.
        if any(key.startswith(tuple(_PICTURES)) for key in row):
            others.append({**row, 'iter': row.get('step', 0)})
        elif 'iter' in row:
            train.append(row)
        elif row.get('step'):
            ends = [done['iter'] for done in train if done.get('epoch') == row['step']]
            step = max(ends) if ends else row['step']
            others.append({'iter': step, **{f'val/{key.removeprefix("val/")}': value for key, value in row.items()}})
    return train, others


def draw_pictures(
    runs: Mapping[str, Curves],
    path: str | os.PathLike,
    title: str | None = None,
    bands: Mapping[str, Band] | None = None,
) -> list[Path]:
    """Draw training, probes and health into a picture each, as far as there are values.

    Args:
        runs: Curves by name of run, see :func:`read_scalars`.
        path: The picture of the training. The others stand beside it: ``probes.png`` and ``health.png`` beside
            ``curves.png``, ``a_probes.png`` and ``a_health.png`` beside ``a.png``.
        title: Title above all panels.
        bands: What healthy runs gave, by quantity, as grey areas; None for none.

    Returns:
        The files written.
    """
    path = Path(path)
    prefix = '' if path.stem == 'curves' else f'{path.stem}_'
    written = []
    for start in ('', *_PICTURES):
        file = path.with_name(f'{prefix}{_PICTURES[start]}{path.suffix}') if start else path
        part = {
            name: {key: curve for key, curve in curves.items() if _picture(key) == start}
            for name, curves in runs.items()
        }
        if any(part.values()):
            draw_curves(part, file, f'{title}: {_PICTURES[start]}' if title and start else title, bands)
            written.append(file)
    return written


def _picture(key: str) -> str:
    return next((start for start in _PICTURES if key.startswith(start)), '')


def draw_curves(
    runs: Mapping[str, Curves],
    path: str | os.PathLike,
    title: str | None = None,
    bands: Mapping[str, Band] | None = None,
    columns: int = 3,
    dpi: int = 110,
    area: str = 'healthy runs',
) -> None:
    """Draw one panel per quantity, student and teacher together: a light line of what was logged and a smoothed one.

    A dashed line is the value of a probe at step 0, before training.

    Args:
        runs: Curves by name of run, see :func:`read_scalars`.
        path: The picture to write.
        title: Title above all panels.
        bands: What healthy runs gave, by quantity, as areas; None for none.
        columns: Panels in a row, at most.
        dpi: Dots per inch of a picture of 5.2 inches per column.
        area: What the legend says of the areas.
    """
    bands = bands or {}
    panels = _panels(runs)
    columns = min(len(panels), columns if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout=layout)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax, panel in zip(axes, panels, strict=False):
        _draw_panel(ax, panel, runs, bands)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=13, fontweight='bold')
    handles = _legend(panels, runs)
    if any(key in bands for panel in panels for key in panel.keys):
        handles.append(Patch(color='0.85', label=area))
    if handles:
        figure.legend(handles=handles, loc='outside lower center', ncols=min(len(handles), 2 * columns), frameon=False)
    figure.savefig(path, dpi=dpi)


def draw_healthy(name: str, curves: Curves, bands: Mapping[str, Band], path: str | os.PathLike) -> None:
    """Draw a run among those with other seeds, training, probes and health together, for the page of a config.

    Args:
        name: Name of the run, which stands above the panels.
        curves: Iterations and values by quantity, as :func:`read_scalars` gives them; quantities without a band are
            left out.
        bands: Where it and the others are, by quantity.
        path: The picture to write; a PNG gets 64 colours.
    """
    twice = 'health/grad_norm' if 'grad_norm' in curves else None
    shown = {key: curve for key, curve in curves.items() if key in bands and key != twice}
    draw_curves({name: shown}, path, name, bands, columns=4, dpi=80, area='least and greatest of all seeds')
    if Path(path).suffix.lower() == '.png':
        with Image.open(path) as image:
            few = image.convert('RGB').quantize(64)
        few.save(path, optimize=True)


@dataclass
class _Panel:
    """A quantity, and the branch of each of its keys: None, or student and teacher."""

    title: str
    keys: dict[str, str | None] = field(default_factory=dict)


def _panels(runs: Mapping[str, Curves]) -> list[_Panel]:
    keys = list(dict.fromkeys(key for curves in runs.values() for key in curves))
    if 'base_lr' in keys:  # `lr` is that of the first parameter group, which may have a factor
        keys = [key for key in keys if key != 'lr']
    panels: dict[str, _Panel] = {}
    for key in sorted(keys, key=_rank):
        start, branch = _picture(key), None
        name = key.removeprefix(start)
        if start and name.startswith(tuple(f'{b}_' for b in _BRANCHES)):
            branch, _, name = name.partition('_')
        title = _words(name) if start else _TITLES.get(key, key.replace('val/', 'validation: ', 1))
        panels.setdefault(start + name, _Panel(title)).keys[key] = branch
    return list(panels.values())


def _rank(key: str) -> tuple[int, str]:
    """Order of the panels: losses, gradient norm, rates, the rest, validation, probes, health, speed."""
    for rank, start in enumerate(('val/', *_PICTURES), start=6):
        if key.startswith(start):
            return rank, key if rank > 6 else ''  # sorted by score; others keep the order of the log
    tests = [key == 'loss', 'loss' in key, key == 'grad_norm', key.endswith('lr'), 'momentum' in key]
    return tests.index(True) if any(tests) else 9 if key == 'images_per_s' else 5, ''


def _words(name: str) -> str:
    """A readable title: ``knn_pooled`` is 'k-NN, pooled', ``capi_target_entropy`` is 'target entropy, capi'."""
    if '/' in name:  # of a protocol
        return name.replace('/', ': ', 1)
    if name.startswith('quick_'):
        return f'quick {_words(name.removeprefix("quick_"))}'
    for quantity in _OF_A_BRANCH:
        if name.endswith(f'_{quantity}'):
            return f'{quantity.replace("_", " ")}, {name.removesuffix(f"_{quantity}")}'
    measure, _, feature = name.partition('_')
    if measure in _MEASURES and feature:
        return f'{_MEASURES[measure]}, {_FEATURES.get(feature, feature.replace("_", " "))}'
    return _TITLES.get(name, name.replace('_', ' '))


def _lines(panel: _Panel, runs: Mapping[str, Curves]) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray], dict]]:
    """Key, curve and style of every line: a colour per run, or per branch where there is one run."""
    for index, curves in enumerate(runs.values()):
        for key, branch in panel.keys.items():
            if key in curves:
                yield key, curves[key], _style(index, branch, len(runs))


def _style(run: int, branch: str | None, num_runs: int) -> dict:
    if num_runs == 1:
        return {'color': f'C{_BRANCHES.index(branch) if branch else 0}', 'linestyle': '-'}
    return {'color': f'C{run % 10}', 'linestyle': ':' if branch == 'student' else '-'}


def _legend(panels: list[_Panel], runs: Mapping[str, Curves]) -> list[Artist]:
    handles: list[Artist] = []
    if len(runs) > 1:
        handles += [Line2D([], [], label=name, **_style(i, None, len(runs))) for i, name in enumerate(runs)]
    present = {branch for panel in panels for branch in panel.keys.values()}
    for branch in _BRANCHES:
        if branch in present:
            style = _style(0, branch, len(runs)) | ({} if len(runs) == 1 else {'color': '0.3'})
            handles.append(Line2D([], [], label=branch, **style))
    if any(_at_start(key, curve) for panel in panels for key, curve, _ in _lines(panel, runs)):
        handles.append(Line2D([], [], color='0.5', linestyle='--', linewidth=1, label='before training'))
    return handles


def _at_start(key: str, curve: tuple[np.ndarray, np.ndarray]) -> bool:
    return key.startswith('probe/') and curve[0][0] == 0


def _draw_panel(ax: Axes, panel: _Panel, runs: Mapping[str, Curves], bands: Mapping[str, Band]) -> None:
    key = next(iter(panel.keys))
    set_by_schedule = key.endswith('lr') or 'momentum' in key
    smooth_it = not set_by_schedule and not key.startswith(('val/', *_PICTURES))
    drawn = []
    for name, branch in panel.keys.items():
        if name in bands:
            band = bands[name]
            colour = f'C{_BRANCHES.index(branch)}' if branch else '0.5'
            ax.fill_between(band.iterations, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
    for name, (steps, values), style in _lines(panel, runs):
        few = len(steps) == 1 or (key.startswith(('val/', *_PICTURES)) and len(steps) <= _MAX_MARKERS)
        if smooth_it and len(steps) > _MAX_MARKERS:
            ax.plot(steps, values, alpha=0.25, linewidth=0.8, **style)
            ax.plot(steps, _smooth(values), linewidth=1.7, **style)
        else:
            ax.plot(steps, values, linewidth=1.5, marker='o' if few else None, markersize=3.5, **style)
        if _at_start(name, (steps, values)):
            ax.axhline(float(values[0]), color='0.5', linestyle='--', linewidth=1, zorder=1)
        drawn.append(values)
    values = np.concatenate(drawn)
    if ('loss' in key or key.endswith('grad_norm')) and values.min() > 0 and values.max() > 20 * values.min():
        ax.set_yscale('log')
    else:
        _focus(ax, key, values)
        if panel.keys.keys() & bands.keys():  # of wide bands, what leaves room for the lines
            low, high = ax.get_ylim()
            room = 2 * np.ptp(values) or np.inf
            ax.set_ylim(max(low, values.min() - room), min(high, values.max() + room))
    ax.set_title(panel.title, fontsize=11)
    ax.set_xlabel('iteration', fontsize=9)
    ax.set_ylabel(_UNITS.get(key, ''), fontsize=9)
    ax.xaxis.set_major_formatter(EngFormatter(sep=''))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=8)
    if ax.get_yscale() == 'log':  # 2 and 5, not 2 x 10^0 and 5 x 10^0
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        ax.yaxis.set_minor_locator(NullLocator())
    else:
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
