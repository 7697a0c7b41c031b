"""Scores of a comparison as tables: arms beside each other, and arguments that they speak for or against."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.tables import markdown_table

#: Scores by subset, arm and name, a value per seed.
Results = dict[str, dict[str, dict[str, list[float]]]]


def tables(results: Results, arms: Mapping[str, Sequence[str]], scores: Sequence[str] = ()) -> dict[str, str]:
    """A Markdown table per subset: arms in their order, scores as columns.

    Shares have three decimals, and columns with larger values (ranks, minutes) one.

    Args:
        results: What was scored.
        arms: Names of the arms by subset, in their order.
        scores: Names of the columns; by default all that there are.
    """
    made = {}
    for subset, found in results.items():
        there = list(dict.fromkeys(name for arm in found.values() for name in arm))
        names = [name for name in scores or there if name in there]
        digits = {
            name: 3 if max(max(arm[name]) for arm in found.values() if name in arm) < 1.5 else 1 for name in names
        }
        rows = [
            [arm, *(_cell(found[arm].get(name, ()), digits[name]) for name in names)]
            for arm in arms[subset]
            if arm in found
        ]
        made[subset] = markdown_table(['', *map(_title, names)], rows)
    return made


def arguments_table(results: Results, arguments: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> str:
    """A Markdown table of what should be better than what: the difference of the means by score.

    A difference is bold where it is beyond the spread of seeds: all values of the one arm are on the same side of all
    values of the other. Of equals, that happens to a third of all pairs with two seeds each, to a tenth with three.

    Args:
        results: What was scored.
        arguments: A row for each: ``says`` (what is argued), ``subset``, ``better`` and ``than`` (names of arms). Rows
            with an arm that has not been scored are left out.
        scores: Names of the columns, of which more is better.

    Raises:
        InputError: An argument lacks one of these.
    """
    rows = []
    for argument in arguments:
        if missing := {'says', 'subset', 'better', 'than'} - {*argument}:
            raise InputError(f'arguments: {dict(argument)} has no {", ".join(sorted(missing))}.')
        found = results.get(argument['subset'], {})
        if argument['better'] in found and argument['than'] in found:
            pair = [found[argument['better']], found[argument['than']]]
            rows.append([argument['says'], *(_difference(*(arm.get(name, ()) for arm in pair)) for name in scores)])
    return markdown_table(['', *map(_title, scores)], rows)


def _title(score: str) -> str:
    return score.replace('_', ' ').replace('knn', 'k-NN').replace('miou', 'mIoU').replace('rankme', 'RankMe')


def _cell(values: Sequence[float], digits: int) -> str:
    """``0.712 ± 0.004`` (sample standard deviation), or the value alone."""
    if not values:
        return ''
    mean = f'{statistics.fmean(values):.{digits}f}'
    return mean if len(values) < 2 else f'{mean} ± {statistics.stdev(values):.{digits}f}'


def _difference(values: Sequence[float], others: Sequence[float]) -> str:
    if not values or not others:
        return ''
    text = f'{statistics.fmean(values) - statistics.fmean(others):+.3f}'
    beyond = min(values) > max(others) or max(values) < min(others)
    return f'**{text}**' if beyond and min(len(values), len(others)) > 1 else text
