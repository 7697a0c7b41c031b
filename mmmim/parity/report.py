"""Recorded arrays, and the table that compares computed ones with them."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmmim.utils import InputError
from mmmim.utils.nested import under


@dataclass
class Fixture:
    """A recorded run: arrays by name, and the settings of its JSON sidecar."""

    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> 'Fixture':
        """Read ``NAME.npz`` and ``NAME.json`` beside it.

        Raises:
            InputError: One of the two is missing or cannot be read.
        """
        path = Path(path)
        sidecar = path.with_suffix('.json')
        for file in (path, sidecar):
            if not file.is_file():
                raise InputError(f'{file} does not exist: a recorded run is NAME.npz with its settings in NAME.json.')
        try:
            settings = json.loads(sidecar.read_text())
        except (ValueError, RecursionError) as error:
            raise InputError(f'{sidecar} is not JSON: {error}.') from None
        if not isinstance(settings, dict):
            raise InputError(f'{sidecar} is no table of settings but a {type(settings).__name__}.')
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # NumPy reads headers as Python text: damaged ones fail in every way
            raise InputError(f'{path} is not a readable .npz file: {type(error).__name__}: {error}.') from None
        return cls(arrays, settings)

    def setting(self, name: str) -> Any:
        """A setting that must be there; ``optimiser.student`` is ``student`` inside ``optimiser``."""
        node: Any = self.settings
        for part in name.split('.'):
            if not isinstance(node, dict) or part not in node:
                raise InputError(f'The JSON sidecar lacks {name!r}.')
            node = node[part]
        return node

    def array(self, name: str) -> np.ndarray:
        """An array that must be there."""
        if name not in self.arrays:
            raise InputError(f'The recorded run lacks the array {name!r}.')
        return self.arrays[name]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays under a prefix, without it."""
        return under(self.arrays, prefix)


@dataclass
class Row:
    """One quantity: its error (max |a - b| / max |b|), the tolerance, and the verdict."""

    name: str
    error: float | None
    tolerance: float | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether the quantity keeps the run from being equal."""
        return self.verdict not in ('ok', 'exempt')

    @property
    def share(self) -> float | None:
        """The error over the tolerance, which may be 0; None where either is not known."""
        if self.error is None or self.tolerance is None:
            return None
        return self.error / self.tolerance if self.tolerance else (math.inf if self.error else 0.0)


def compare(
    recorded: Mapping[str, np.ndarray],
    computed: Mapping[str, np.ndarray],
    is_input: Callable[[str], bool],
    tolerance: Callable[[str], float | None],
    floor: Callable[[str], float] = lambda name: 0.0,
) -> list[Row]:
    """Compare every recorded quantity with the computed one.

    Args:
        recorded: Arrays of the fixture.
        computed: Arrays of the replay, by the same names.
        is_input: Whether a recorded array is an input of the replay.
        tolerance: Gives the greatest error that a quantity may have; None for an exempt one.
        floor: The least scale that the error of a quantity is relative to.

    Returns:
        A row per quantity. One that was not computed, has another shape or is not finite fails.
    """
    rows = []
    for name, expected in recorded.items():
        if is_input(name):
            continue
        limit = tolerance(name)
        if limit is None:
            rows.append(Row(name, None, None, 'exempt'))
        elif name not in computed:
            rows.append(Row(name, None, limit, 'not computed'))
        elif computed[name].shape != expected.shape:
            rows.append(Row(name, None, limit, f'shape {computed[name].shape}, recorded {expected.shape}'))
        else:
            a: np.ndarray = computed[name].astype(np.float64)
            b: np.ndarray = expected.astype(np.float64)
            scale = max(float(np.abs(b).max(initial=0.0)), floor(name))
            error = float(np.abs(a - b).max(initial=0.0) / (scale or 1.0))
            rows.append(Row(name, error, limit, 'ok' if error <= limit else 'DIFFERS'))
    return rows


def _as_recorded(fixture: Fixture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(arrays)


def _any_scale(fixture: Fixture) -> Callable[[str], float]:
    return lambda name: 0.0


@dataclass(frozen=True)
class Method:
    """What the recordings of a method hold, and how they are replayed.

    Attributes:
        replay: Gives for a recording every quantity of it that is no input, by its name there.
        is_input: Whether an array of that name is read by the replay.
        tolerance: Gives the greatest error that a quantity may have; None for one that is exempt.
        split: Gives for a recording, and its arrays or those of its replay, the quantities in them, where an array
            holds several.
        floor: Gives for a recording the least scale that the error of a quantity is relative to.
    """

    replay: Callable[[Fixture], dict[str, np.ndarray]]
    is_input: Callable[[str], bool]
    tolerance: Callable[[str], float | None]
    split: Callable[[Fixture, Mapping[str, np.ndarray]], dict[str, np.ndarray]] = _as_recorded
    floor: Callable[[Fixture], Callable[[str], float]] = _any_scale

    def rows(self, fixture: Fixture, computed: Mapping[str, np.ndarray]) -> list[Row]:
        """Compare a recording with what a replay has computed, see :func:`compare`."""
        recorded, replayed = (self.split(fixture, arrays) for arrays in (fixture.arrays, computed))
        return compare(recorded, replayed, self.is_input, self.tolerance, self.floor(fixture))


def format_rows(rows: list[Row]) -> str:
    """The rows as a table, and a line that sums them up."""
    width = max([len(row.name) for row in rows], default=8)

    def number(value: float | None) -> str:
        return f'{"-":>9}' if value is None else f'{value:9.1e}'

    lines = [f'{"quantity":<{width}}  {"error":>9}  {"tolerance":>9}  verdict']
    lines += [f'{r.name:<{width}}  {number(r.error)}  {number(r.tolerance)}  {r.verdict}' for r in rows]
    failed = [row for row in rows if row.failed]
    share, name = max(((row.share, row.name) for row in rows if row.share is not None), default=(None, ''))
    if share is not None:
        lines.append(f'largest share of a tolerance: {share:.2f} ({name})')
    lines.append(f'{len(rows) - len(failed)} of {len(rows)} quantities agree')
    return '\n'.join(lines)
