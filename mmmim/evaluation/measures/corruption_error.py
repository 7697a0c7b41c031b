"""Errors on corrupted images, as ImageNet-C adds them up (Hendrycks and Dietterich 2019, arXiv 1903.12261)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmim.utils import InputError

#: What is recorded of every corruption and severity.
SCORES = ('top1', 'ece', 'nll')


def summary(record: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, float]:
    """The scores of a record: of clean images, means over corrupted ones, and mean corruption errors.

    With a baseline, ``mCE`` is the mean over the corruptions of the error over all severities divided by that of the
    baseline, in percent (section 4 of the paper), and ``relative_mCE`` the same of the errors beyond those on clean
    images.

    Args:
        record: ``clean`` and ``corrupted``: by corruption and severity, of each top1, ece and nll.
        baseline: Record of another model on the same images; None without one.
    """
    found = {f'clean/{name}': record['clean'][name] for name in SCORES}
    for name in SCORES:
        found[f'corrupted/{name}'] = float(np.mean([list(map(_of(name), each.values())) for each in _rows(record)]))
    found['mean_error'] = 100 - found['corrupted/top1']
    if baseline is not None:
        ratios, relative = [], []
        clean, base_clean = (100 - each['clean']['top1'] for each in (record, baseline))
        for name, severities in record['corrupted'].items():
            own, other = (
                np.array([100 - each['corrupted'][name][s]['top1'] for s in severities]) for each in (record, baseline)
            )
            ratios.append(_divided(own.sum(), other.sum()))
            relative.append(_divided((own - clean).sum(), (other - base_clean).sum()))
        found['mCE'], found['relative_mCE'] = 100 * float(np.mean(ratios)), 100 * float(np.mean(relative))
    return found


def _rows(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(record['corrupted'].values())


def _of(name: str) -> Any:
    return lambda scores: scores[name]


def _divided(a: float, b: float) -> float:
    return float(a / b) if b else float('nan')


def check_baseline(baseline: Any, record: Mapping[str, Any], path: str) -> None:
    """Refuse a baseline that is not of the same images and corruptions.

    Args:
        baseline: What a file holds.
        record: What it is compared with, its scores not yet measured: ``images``, ``seed``, ``corruptions`` and
            ``severities``.
        path: The file, for messages.

    Raises:
        InputError: It is no record, or one of something else.
    """
    remedy = 'give the corruptions.json of a run of this config with another classifier.'
    try:
        known = {name: baseline[name] for name in ('images', 'data', 'seed', 'corruptions', 'severities')}
        scores = [baseline['clean']] + [
            baseline['corrupted'][name][str(s)] for name in record['corruptions'] for s in record['severities']
        ]
        numbers = [float(each[name]) for each in scores for name in SCORES]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'{path} is no record of corruptions ({type(error).__name__}: {error}): {remedy}') from None
    if not np.isfinite(numbers).all():
        raise InputError(f'{path} has scores that are not finite: {remedy}')
    for name, value in known.items():
        if value != record[name]:
            raise InputError(f'{path} is of {name} {value!r} and this test of {record[name]!r}: {remedy}')
