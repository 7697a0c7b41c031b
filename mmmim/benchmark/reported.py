"""What papers report of the protocols of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmmim.config.papers import Cell, read_papers
from mmmim.config.resources import resources

from .suite import Protocol


def reported(protocols: Sequence[Protocol]) -> dict[str, list[str]]:
    """The numbers of the tables of papers (``configs/*/tables.yml``) that protocols would make.

    Args:
        protocols: Protocols of a suite.

    Returns:
        By name of the protocol, a line for each model that a paper reports, such as '73.8: CAPI, table 5, ViT-L/14',
        the best one first. Protocols of which nothing is reported are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for paper in read_papers(resources()):
        for table in paper.tables:
            for row in table.rows:
                for cell in row.cells:
                    for protocol in protocols:
                        if _made_by(protocol, cell):
                            line = f'{cell}: {paper.name}, {table.name}, {row.label}'
                            found.setdefault(protocol.name, {})[line] = cell.value or 0.0
    better = {protocol.name: protocol.higher for protocol in protocols}
    return {name: sorted(lines, key=lambda x: lines[x], reverse=better[name]) for name, lines in found.items()}


def _made_by(protocol: Protocol, cell: Cell) -> bool:
    """Whether a protocol makes a number: the same config, data, options and score."""
    score = cell.score
    same = (score.config, score.data or None, set(score.options)) == (
        protocol.config,
        protocol.data if protocol.data != 'imagenet' else None,
        set(protocol.option_words),
    )
    read = score.read is None or protocol.score in score.read
    return same and read and cell.value is not None and not math.isnan(cell.value)
