"""Replay of recorded runs: do the same weights, batch and draws give the same numbers?

A method's module has ``replay(fixture)``, ``is_input(name)`` and ``tolerance(name)``; where recorded arrays hold
several quantities, ``split(fixture, arrays)``; where errors are relative to a least scale, ``floor(fixture)``.
"""

from typing import Any

import numpy as np

from . import capi, ijepa, latent_mim, pilamim, semantic_mim
from .report import Fixture, Row, compare, format_rows

#: Modules by method name.
METHODS: dict[str, Any] = {
    'capi': capi,
    'ijepa': ijepa,
    'latent_mim': latent_mim,
    'pilamim': pilamim,
    'semantic_mim': semantic_mim,
}


def check(method: Any, fixture: Fixture) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Replay a recorded run and compare.

    Args:
        method: A module of :data:`METHODS`.
        fixture: The recording.

    Returns:
        A row per quantity, and the computed arrays by their names in the recording.
    """
    computed = method.replay(fixture)
    recorded, replayed = fixture.arrays, computed
    if hasattr(method, 'split'):
        recorded, replayed = method.split(fixture, recorded), method.split(fixture, replayed)
    floor = method.floor(fixture) if hasattr(method, 'floor') else lambda name: 0.0
    return compare(recorded, replayed, method.is_input, method.tolerance, floor), computed


__all__ = ['METHODS', 'Fixture', 'Row', 'check', 'compare', 'format_rows']
