"""The page of a benchmark: one file of HTML that reads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmmim.utils.atomic import write_text_atomically
from mmmim.visualization.pages import picture, render

from .charts import bars, curves
from .encoders import Encoder
from .results import Record, Result, number
from .suite import Protocol

PAGE = 'index.html'
#: Pictures that a protocol shows of each encoder.
_PICTURES = 2


def write_page(record: Record, folder: Path, beside: Mapping[str, Sequence[str]]) -> Path:
    """Write the page.

    Args:
        record: What was measured.
        folder: Where it goes, and where the pictures of the runs are.
        beside: What papers report, by name of the protocol, see :func:`mmmim.benchmark.reported.reported`.

    Returns:
        The file.

    Raises:
        InputError: It cannot be written.
    """
    titles = {protocol.name: protocol for protocol in record.protocols}
    text = render(
        'benchmark.html',
        title='What the encoders know',
        about=record.about,
        encoders=record.encoders,
        rows=[_row(protocol, record, folder, beside.get(protocol.name, [])) for protocol in record.measured],
        reported=any(protocol.name in beside for protocol in record.measured),
        skipped=[(titles[name], reason) for name, reason in record.skipped.items()],
    )
    write_text_atomically(text, str(folder / PAGE))
    return folder / PAGE


def _row(protocol: Protocol, record: Record, folder: Path, beside: Sequence[str]) -> dict[str, Any]:
    """What the page shows of a protocol."""
    results = [
        result
        for encoder in record.encoders
        if (result := record.results.get((protocol.name, encoder.label))) is not None
    ]
    return {
        'protocol': protocol,
        'cells': [_cell(protocol, encoder, record) for encoder in record.encoders],
        'reported': beside,
        'chart': _chart(protocol, record),
        'pictures': [shown for result in results for shown in _pictures(protocol, result, folder)],
        'messages': [f'{result.encoder}: {result.message}' for result in results if result.message],
        'results': [result for result in results if not result.message],
    }


def _cell(protocol: Protocol, encoder: Encoder, record: Record) -> dict[str, Any]:
    score = record.score(protocol, encoder)
    twin = next((other for other in record.encoders if other.label == encoder.twin), None)
    beside = None if twin is None else record.score(protocol, twin)
    change, direction = '', ''
    if score is not None and beside is not None:
        change = number(score - beside, protocol, '+')
        direction = 'up' if (score > beside) == protocol.higher else 'down'
    return {'text': number(score, protocol), 'random': encoder.twin is None, 'change': change, 'direction': direction}


def _chart(protocol: Protocol, record: Record) -> str:
    found = [(encoder, record.results.get((protocol.name, encoder.label))) for encoder in record.encoders]
    done = [(encoder, result) for encoder, result in found if result is not None]
    if protocol.blocks:
        return curves({encoder.label: result.curve(protocol) for encoder, result in done}, protocol.unit, 'block')
    scores = [(encoder, result.score(protocol)) for encoder, result in done]
    return bars([(e.label, score, e.twin is None) for e, score in scores if score is not None], protocol.unit)


def _pictures(protocol: Protocol, result: Result, folder: Path) -> list[dict[str, str]]:
    """The first pictures of a run as data of the page, not larger than needed."""
    shown = []
    for name in result.pictures[:_PICTURES]:
        file = (folder / result.folder / name).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            continue
        what = Path(name).stem.replace('_', ' ')
        shown.append(
            {
                'data': picture(file),
                'alt': f'{protocol.title}, {result.encoder}: {what}',
            }
        )
    return shown
