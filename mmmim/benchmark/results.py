"""The record of a benchmark: every number with what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.files import read_regular
from mmmim.utils.tables import markdown_table

from .encoders import Encoder
from .suite import Protocol

#: The record and the table, in the folder of a benchmark.
RECORD, TABLE = 'benchmark.json', 'benchmark.md'
_LIMIT = 2**28


@dataclass(frozen=True)
class Result:
    """What a protocol says of an encoder.

    Attributes:
        protocol: Name of the protocol.
        encoder: Label of the encoder.
        made_by: A hash of protocol, config, data set and encoder.
        command: The command that makes the same numbers.
        metrics: All scores by name.
        seconds: What it took.
        folder: Where its log, config and pictures are, from the folder of the benchmark.
        pictures: Files in ``folder``.
        message: Why there are no scores; empty where there are.
    """

    protocol: str
    encoder: str
    made_by: str
    command: str
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    folder: str = ''
    pictures: list[str] = field(default_factory=list)
    message: str = ''

    def score(self, protocol: Protocol) -> float | None:
        """The one that the table shows; of several blocks, the last one's."""
        return self.metrics.get(protocol.score, next(iter(reversed(self.curve(protocol).values())), None))

    def curve(self, protocol: Protocol) -> dict[int, float]:
        """Scores by block, where every block was tested."""
        found = {}
        for name, value in self.metrics.items():
            layer, _, rest = name.partition('/')
            if rest == protocol.score and layer.startswith('layer_'):
                found[int(layer.removeprefix('layer_'))] = value
        return dict(sorted(found.items()))


@dataclass
class Record:
    """A benchmark: what was measured, and what came out.

    Attributes:
        about: The command, the versions, the machine.
        protocols: What was measured, in the order of the suite.
        encoders: Encoders that were measured, each behind the same one with random weights.
        results: What came out, by name of the protocol and label of the encoder.
        skipped: What was missing of the data, by name of the protocol.
    """

    about: dict[str, Any]
    protocols: Sequence[Protocol]
    encoders: Sequence[Encoder]
    results: dict[tuple[str, str], Result] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> list[Protocol]:
        """Protocols that were not skipped."""
        return [protocol for protocol in self.protocols if protocol.name not in self.skipped]

    def score(self, protocol: Protocol, encoder: Encoder) -> float | None:
        """The score that the table shows; None where there is none."""
        result = self.results.get((protocol.name, encoder.label))
        return None if result is None else result.score(protocol)

    def write(self, folder: Path) -> None:
        """Write the record and its table.

        Raises:
            InputError: The folder cannot be written.
        """
        plain = {
            'about': self.about,
            'encoders': [asdict(encoder) for encoder in self.encoders],
            'protocols': [asdict(protocol) for protocol in self.protocols],
            'results': [asdict(result) for result in self.results.values()],
            'skipped': self.skipped,
        }
        write_text_atomically(json.dumps(plain, indent=1) + '\n', str(folder / RECORD))
        write_text_atomically(self.table() + '\n', str(folder / TABLE))

    def table(self) -> str:
        """The scores as Markdown: a row for each encoder, a column for each protocol."""
        header = ['encoder', *(f'{each.title} ({each.unit})' if each.unit else each.title for each in self.measured)]
        rows = [
            [encoder.label, *(number(self.score(each, encoder), each) for each in self.measured)]
            for encoder in self.encoders
        ]
        return markdown_table(header, rows)


def number(value: float | None, protocol: Protocol, sign: str = '') -> str:
    """A score of a protocol for a table: all of a column with as many decimals, one where it is in per cent.

    Args:
        value: The score, or a difference of two; None for none, which is an empty text.
        protocol: The protocol that gives it.
        sign: '+' to show the sign of positive values too.
    """
    return '' if value is None else format(value, f'{sign}.1f' if protocol.unit == '%' else f'{sign}.3f')


def read_results(folder: Path) -> dict[str, Result]:
    """Results of an earlier call, by what made them; none where there was none.

    Args:
        folder: Folder of the benchmark.

    Raises:
        InputError: The record there is none of a benchmark.
    """
    file = folder / RECORD
    if not file.exists():
        return {}
    try:
        stored = json.loads(read_regular(file, _LIMIT))['results']
        results = [Result(**each) for each in stored]
        if not all(_is_sound(result) for result in results):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{file} is no record of a benchmark: remove it, or give another --out.') from error
    return {result.made_by: result for result in results if not result.message}


def _is_sound(result: Result) -> bool:
    texts = (result.protocol, result.encoder, result.made_by, result.command, result.folder, *result.pictures)
    scores = isinstance(result.metrics, Mapping) and all(isinstance(v, int | float) for v in result.metrics.values())
    return scores and all(isinstance(text, str) for text in texts) and isinstance(result.seconds, int | float)
