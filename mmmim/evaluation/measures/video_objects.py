"""Scores of objects in videos over a data set, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mmengine.evaluator import BaseMetric

from mmmim.registry import METRICS
from mmmim.utils.tables import markdown_table

from .davis import Statistics, global_scores


@dataclass(frozen=True)
class ScoredObject:
    """An object of a sequence with its scores.

    Attributes:
        sequence: Name of the sequence.
        index: Index of the object in the annotations.
        region: Statistics of J.
        contour: Statistics of F.
    """

    sequence: str
    index: int
    region: Statistics
    contour: Statistics


@METRICS.register_module()
class VideoObjectScores(BaseMetric):
    """J (region), F (contour) and their mean, as the DAVIS benchmark has them; in percent.

    Means over the objects of all sequences, see :func:`mmmim.evaluation.measures.davis.global_scores`.
    :class:`mmmim.PropagationTestLoop` scores frames and gives the statistics of every object.

    Args:
        prefix: What the names of the scores begin with.
    """

    default_prefix = 'davis'

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        #: What :meth:`process` was given of all sequences, after the last evaluation, in the first process.
        self.sequences: list[dict[str, Any]] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take sequences: ``name``, object by object the ``statistics`` of J and F, and whatever is noted of them."""
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all objects."""
        self.sequences = results
        return percent(scored_objects(results))


def scored_objects(sequences: Sequence[dict[str, Any]]) -> list[ScoredObject]:
    """The objects of sequences, see :meth:`VideoObjectScores.process`."""
    return [
        ScoredObject(sequence['name'], index, Statistics(*region), Statistics(*contour))
        for sequence in sequences
        for index, (region, contour) in enumerate(sequence['statistics'], start=1)
    ]


def percent(objects: Sequence[ScoredObject]) -> dict[str, float]:
    """Scores of some objects in percent."""
    return {key: 100 * value for key, value in global_scores([(o.region, o.contour) for o in objects]).items()}


def score_rows(objects: Sequence[ScoredObject]) -> list[dict[str, Any]]:
    """Scores of every object, of every sequence (means over its objects) and of all, in percent.

    Returns:
        Rows with ``name``, ``SEQUENCE_INDEX`` as DAVIS calls objects, ``SEQUENCE`` or ``all``, and the scores.
    """
    rows = []
    for sequence, members in groupby(objects, key=lambda each: each.sequence):
        own = list(members)
        rows += [{'name': f'{sequence}_{each.index}', **percent([each])} for each in own]
        rows.append({'name': sequence, **percent(own)})
    return [*rows, {'name': 'all', **percent(objects)}]


def score_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of :func:`score_rows` as a Markdown table."""
    names = [name for name in rows[0] if name != 'name']
    cells = [[row['name'], *(f'{row[name]:.1f}' for name in names)] for row in rows]
    return markdown_table(['object, sequence', *names], cells)
