"""Replay of recorded runs: do the same weights, batch and draws give the same numbers?

The module of a method builds the model of a recording and runs its training step, the one that trains, while it listens
to the modules in it (:mod:`mmmim.parity.training`); :data:`METHODS` says what there is to know of it. Protocols of
evaluation have recordings of their own (:mod:`mmmim.parity.protocol`).
"""

import numpy as np

from mmmim.utils import InputError

from . import capi, crossmae, data2vec, data2vec2, ijepa, latent_mim, pilamim, protocol, semantic_mim
from .report import Fixture, Method, Row, compare, format_rows

#: By name.
METHODS = {
    'capi': Method(capi.replay, capi.is_input, capi.tolerance),
    'crossmae': Method(crossmae.replay, crossmae.is_input, crossmae.tolerance, crossmae.split, crossmae.floor),
    'data2vec': Method(data2vec.replay, data2vec.is_input, data2vec.tolerance),
    'data2vec2': Method(data2vec2.replay, data2vec2.is_input, data2vec2.tolerance),
    'ijepa': Method(ijepa.replay, ijepa.is_input, ijepa.tolerance),
    'latent_mim': Method(
        latent_mim.replay, latent_mim.is_input, latent_mim.tolerance, latent_mim.split, latent_mim.floor
    ),
    'pilamim': Method(pilamim.replay, pilamim.is_input, pilamim.tolerance, pilamim.split),
    'semantic_mim': Method(
        semantic_mim.replay, semantic_mim.is_input, semantic_mim.tolerance, semantic_mim.split, semantic_mim.floor
    ),
}

#: The word that stands for the protocols of evaluation in the place of a method.
PROTOCOL = 'protocol'


def method_of(name: str, fixture: Fixture) -> Method:
    """What there is to know of a recording.

    Args:
        name: One of :data:`METHODS`; :data:`PROTOCOL` for a recorded protocol of evaluation, which says itself which.
        fixture: The recording that is replayed.

    Raises:
        InputError: There is no such name, or the recording is of no protocol that is known.
    """
    check_name(name)
    return protocol.method(fixture) if name == PROTOCOL else METHODS[name]


def check_name(name: str) -> None:
    """Refuse what is neither a method nor :data:`PROTOCOL`.

    Raises:
        InputError: There is no such name.
    """
    if name not in (*METHODS, PROTOCOL):
        raise InputError(f'There is no replay of {name!r}: use one of {", ".join((*METHODS, PROTOCOL))}.')


def check(method: Method, fixture: Fixture) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Replay a recorded run and compare.

    Args:
        method: What :func:`method_of` gives.
        fixture: The recording that is replayed.

    Returns:
        A row per quantity, and the computed arrays by their names in the recording.
    """
    computed = method.replay(fixture)
    return method.rows(fixture, computed), computed


__all__ = [
    'METHODS',
    'PROTOCOL',
    'Fixture',
    'Method',
    'Row',
    'check',
    'check_name',
    'compare',
    'format_rows',
    'method_of',
]
