"""Replay of recorded runs: do the same weights, batch and draws give the same numbers?

The module of a method builds the model of a recording and runs its training step, the one that trains, while it listens
to the modules in it (:mod:`mmmim.parity.training`); :data:`METHODS` says what there is to know of it.
"""

import numpy as np

from . import capi, ijepa, latent_mim, pilamim, semantic_mim
from .report import Fixture, Method, Row, compare, format_rows

#: By name.
METHODS = {
    'capi': Method(capi.replay, capi.is_input, capi.tolerance),
    'ijepa': Method(ijepa.replay, ijepa.is_input, ijepa.tolerance),
    'latent_mim': Method(
        latent_mim.replay, latent_mim.is_input, latent_mim.tolerance, latent_mim.split, latent_mim.floor
    ),
    'pilamim': Method(pilamim.replay, pilamim.is_input, pilamim.tolerance, pilamim.split),
    'semantic_mim': Method(
        semantic_mim.replay, semantic_mim.is_input, semantic_mim.tolerance, semantic_mim.split, semantic_mim.floor
    ),
}


def check(method: Method, fixture: Fixture) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Replay a recorded run and compare.

    Args:
        method: One of :data:`METHODS`.
        fixture: The recording that is replayed.

    Returns:
        A row per quantity, and the computed arrays by their names in the recording.
    """
    computed = method.replay(fixture)
    return method.rows(fixture, computed), computed


__all__ = ['METHODS', 'Fixture', 'Method', 'Row', 'check', 'compare', 'format_rows']
