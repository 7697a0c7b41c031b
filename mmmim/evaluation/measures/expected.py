"""What the curves of a healthy training look like: bands over seeds, and whether a run stays inside.

A file ``expected.json`` beside the configs of a method has, by name of config, the number of runs, a hash of what
decides their curves, and of every curve the iterations and the bounds of its band.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.files import read_regular

#: Share of further runs of which each point lies in the band.
CONFIDENCE = 0.95
#: A curve with a larger share of its points outside the band is outside.
SHARE = 0.1

FILE = 'expected.json'
#: What a schedule or the machine decides has no band.
_NO_BAND = ('lr', 'base_lr', 'momentum', 'memory', 'images_per_s', 'skipped', 'time', 'data_time')
_LIMIT = 2**24

Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


class Band(NamedTuple):
    """Where a quantity of healthy runs lies.

    Attributes:
        iterations: When the quantity was logged, ``[n]``.
        low: Lower bounds ``[n]``.
        high: Upper bounds ``[n]``.
    """

    iterations: np.ndarray
    low: np.ndarray
    high: np.ndarray


def make_bands(runs: Sequence[Curves]) -> dict[str, Band]:
    """The bands of healthy runs, of quantities that all of them logged at the same iterations.

    Args:
        runs: Curves of at least two runs that differ in their seed, see
            :func:`mmmim.visualization.curves.read_scalars`.

    Returns:
        By quantity the interval in which a further run lies with a probability of :data:`CONFIDENCE`: the mean over the
        runs, plus and minus ``t * sqrt(1 + 1 / runs)`` sample deviations, where ``t`` is the quantile of Student's
        distribution with ``runs - 1`` degrees of freedom (5.0 deviations for three runs). Where the runs happen to
        agree, the deviation is that which three quarters of the points of the curve do not exceed.

    Raises:
        InputError: There are fewer than two runs, or nothing that all of them logged.
    """
    if len(runs) < 2:
        raise InputError(f'A band takes at least two runs that differ in their seed, and there is {len(runs)}.')
    from scipy.stats import t  # half a second, and only those who make bands need it

    wide = t.ppf((1 + CONFIDENCE) / 2, len(runs) - 1) * math.sqrt(1 + 1 / len(runs))
    bands = {}
    for key, (iterations, values) in _logged_by_all(runs).items():
        deviation = values.std(0, ddof=1)
        half = wide * np.maximum(deviation, np.quantile(deviation, 0.75))
        bands[key] = Band(iterations, values.mean(0) - half, values.mean(0) + half)
    if not bands:
        raise InputError('The runs have no quantity that all of them logged at the same iterations.')
    return bands


def extremes(runs: Sequence[Curves]) -> dict[str, Band]:
    """The least and the greatest value of the runs, of quantities that all of them logged at the same iterations."""
    found = _logged_by_all(runs)
    return {key: Band(iterations, values.min(0), values.max(0)) for key, (iterations, values) in found.items()}


def _logged_by_all(runs: Sequence[Curves]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By quantity the iterations ``[n]``, and the values of the runs ``[runs, n]``."""
    found = {}
    for key in runs[0]:
        curves = [run[key] for run in runs if key in run]
        iterations = curves[0][0]
        if (
            key not in _NO_BAND
            and len(curves) == len(runs)
            and all(np.array_equal(iterations, other[0]) for other in curves)
        ):
            found[key] = iterations, np.stack([curve[1] for curve in curves])
    return found


def curves_outside(curves: Curves, bands: Mapping[str, Band]) -> list[str]:
    """The curves of a run that leave their band at more than :data:`SHARE` of their points, a phrase each."""
    found = []
    for key, band in bands.items():
        if key not in curves:
            continue
        iterations, values = curves[key]
        _, here, there = np.intersect1d(iterations, band.iterations, return_indices=True)
        values, low, high = values[here], band.low[there], band.high[there]
        outside = np.flatnonzero((values < low) | (values > high) | ~np.isfinite(values))
        if len(outside) > SHARE * len(here):
            worst = outside[0]
            found.append(
                f'{key} at {len(outside)} of {len(here)} points, first at iteration {iterations[here][worst]:g} '
                f'({values[worst]:.4g}, healthy runs {low[worst]:.4g} to {high[worst]:.4g})'
            )
    return found


def read_expected(config: str, curves_hash: str) -> tuple[int, dict[str, Band]] | None:
    """The bands that belong to a config.

    Args:
        config: The file of the config; the bands are in ``expected.json`` beside it, under its name.
        curves_hash: What :func:`mmmim.config.hashes.curves_hash` gives for the training.

    Returns:
        The number of runs that made them, and the bands; None where there are none, or only of other settings.

    Raises:
        InputError: The file is damaged.
    """
    path = Path(config).parent / FILE
    if not path.is_file():
        return None
    try:
        entry = json.loads(read_regular(path, _LIMIT)).get(Path(config).stem)
        if entry is None or entry['hash'] != curves_hash:
            return None
        bands = {key: Band(*(np.array(side, float) for side in sides)) for key, sides in entry['curves'].items()}
        if any(band.iterations.ndim != 1 or len({side.shape for side in band}) > 1 for band in bands.values()):
            raise ValueError('bounds of different lengths')
        return int(entry['runs']), bands
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f'{path} is damaged ({error}): make it anew with tools/analysis_tools/expected.py') from None


def write_expected(config: str, curves_hash: str, runs: int, bands: Mapping[str, Band], about: str) -> Path:
    """Write the bands of a config into the ``expected.json`` beside it; those of other configs stay.

    Args:
        config: The file of the config.
        curves_hash: What :func:`mmmim.config.hashes.curves_hash` gives for the runs.
        runs: How many there were.
        bands: What :func:`make_bands` made of the runs; four digits of the bounds are kept.
        about: What made them, for readers.

    Returns:
        The file.
    """
    path = Path(config).parent / FILE
    entries: dict[str, Any] = json.loads(read_regular(path, _LIMIT)) if path.is_file() else {}
    entries[Path(config).stem] = {
        'about': about,
        'runs': runs,
        'hash': curves_hash,
        'curves': {key: [[float(f'{value:.4g}') for value in side] for side in band] for key, band in bands.items()},
    }
    write_text_atomically(_lines(entries), str(path))
    return path


def _lines(entries: Mapping[str, Any]) -> str:
    """JSON with a line for each curve, so that a change can be read."""
    parts = []
    for name, entry in sorted(entries.items()):
        head = ''.join(f'  {json.dumps(key)}: {json.dumps(entry[key])},\n' for key in ('about', 'runs', 'hash'))
        curves = ',\n'.join(f'   {json.dumps(key)}: {json.dumps(sides)}' for key, sides in entry['curves'].items())
        parts.append(f' {json.dumps(name)}: {{\n{head}  "curves": {{\n{curves}\n  }}\n }}')
    return '{\n' + ',\n'.join(parts) + '\n}\n'
