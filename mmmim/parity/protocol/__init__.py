"""Replay of recorded protocols: does the evaluation of the toolbox give the numbers of the authors' code?

A recording is of one protocol, such as a k-NN classifier or a few steps of a linear probe: arrays ``in.*`` (``sd.*``
and ``init.*`` where it begins with weights) and what became of them. Its JSON sidecar says which protocol it is, and
how exactly quantities must be met: all in one sentence, ``tolerance``, or each by itself, ``keys.NAME.tolerance``,
which then also says what is an input (:mod:`mmmim.parity.protocol.keyed`). The modules beside this one hand the inputs
to the code that configs use; they compute nothing themselves.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from mmmim.utils import InputError

from ..report import Fixture, Method
from . import (
    capi_probes,
    clevr_labels,
    davis_frames,
    davis_metrics,
    fewshot_sampling,
    label_propagation,
    latentmim_1nn,
    layer_decay,
    linear_lars,
    mae_crop,
    object_discovery,
    patch_clustering,
    rankme,
    semanticmim_probe_features,
    weighted_knn,
)
from .keyed import Tolerances, partitions

#: What the names of inputs begin with.
INPUTS = ('in.', 'sd.', 'init.')
#: Error that an exact float may have: a few last bits of fp32, in which authors' code averages what it counts.
EXACT = 4 * float(np.finfo(np.float32).eps)


def _as_recorded(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(arrays)


@dataclass(frozen=True)
class Protocol:
    """How recordings of a protocol are recognised and replayed.

    ``about`` is the JSON sidecar; asking it, a table in it or ``arrays`` for what is not there is an ``InputError``.

    Attributes:
        matches: Says by ``about`` and the arrays whether a recording is of this protocol.
        replay: Gives every quantity of a recording by its name there: arrays that are no input, and the numbers of
            ``result_percent`` in the JSON as ``result_percent.k10.top1``.
        split: Gives the quantities in arrays of the recording, or of the replay, where an array holds several.
        exempt: Whether a quantity is not compared.
    """

    matches: Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], bool]
    replay: Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    split: Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], dict[str, np.ndarray]] = _as_recorded
    exempt: Callable[[str], bool] = lambda name: False


#: By name.
PROTOCOLS = {
    'capi_probe': Protocol(capi_probes.is_sweep, capi_probes.replay_sweep, capi_probes.split, capi_probes.exempt),
    'capi_select': Protocol(capi_probes.is_choice, capi_probes.replay_choice),
    'clevr_labels': Protocol(clevr_labels.matches, clevr_labels.replay),
    'davis_frames': Protocol(davis_frames.matches, davis_frames.replay, davis_frames.split),
    'davis_metrics': Protocol(davis_metrics.matches, davis_metrics.replay),
    'fewshot_sampling': Protocol(fewshot_sampling.matches, fewshot_sampling.replay),
    'label_propagation': Protocol(label_propagation.matches, label_propagation.replay, label_propagation.split),
    'latentmim_1nn': Protocol(latentmim_1nn.matches, latentmim_1nn.replay),
    'layer_decay': Protocol(layer_decay.matches, layer_decay.replay),
    'mae_crop': Protocol(mae_crop.matches, mae_crop.replay),
    'mae_linprobe_lars': Protocol(linear_lars.is_mae, linear_lars.replay_mae),
    'pilamim_linprobe_lars': Protocol(linear_lars.is_pilamim, linear_lars.replay_pilamim),
    'object_discovery': Protocol(object_discovery.matches, object_discovery.replay, partitions),
    'patch_clustering': Protocol(patch_clustering.matches, patch_clustering.replay, partitions),
    'rankme': Protocol(rankme.matches, rankme.replay),
    'semanticmim_probe_features': Protocol(semanticmim_probe_features.matches, semanticmim_probe_features.replay),
    'weighted_knn': Protocol(weighted_knn.matches, weighted_knn.replay),
}


class _Told(dict):
    """What a recording says; asking for what it does not is the user's error."""

    def __missing__(self, key: Any) -> Any:
        raise InputError(f'The recording lacks {key!r}, which its protocol needs.')

    @classmethod
    def of(cls, value: Any) -> Any:
        """The value, tables in it included."""
        return cls({key: cls.of(each) for key, each in value.items()}) if isinstance(value, dict) else value


def recognised(fixture: Fixture) -> str:
    """Name of the protocol that a recording is of.

    Raises:
        InputError: It is of none, or of several.
    """
    about, arrays = _Told.of(fixture.settings), _Told(fixture.arrays)
    if not isinstance(about.get('settings', {}), dict):
        raise InputError(f'settings of the JSON sidecar is no table but a {type(about["settings"]).__name__}.')
    names = [name for name, protocol in PROTOCOLS.items() if protocol.matches(about, arrays)]
    if len(names) != 1:
        raise InputError(
            f'The recording ({about.get("what", "which does not say what it is")}) is of '
            f'{" and of ".join(names) or "no protocol that is known"}: there are {", ".join(PROTOCOLS)}.'
        )
    return names[0]


def method(fixture: Fixture) -> Method:
    """How a recorded protocol is replayed and compared.

    Raises:
        InputError: It is of no known protocol, or its sidecar gives no tolerance.
    """
    name = recognised(fixture)
    protocol = _guarded(name, PROTOCOLS[name])
    about = _Told.of(fixture.settings)
    if 'tolerance' not in about and 'keys' in about:
        return _keyed(protocol, about, fixture)
    results = _numbers(about.get('result_percent', {}), 'result_percent')
    limits = _limits(about['tolerance'])
    absolute = about['tolerance'].get('metric') == 'absolute'
    recorded = protocol.split(about, {**fixture.arrays, **results})

    def tolerance(name: str) -> float | None:
        if protocol.exempt(name):
            return None
        limit = limits(name, recorded[name].dtype)
        # Errors are relative to the larger of 1 (`floor`) and the greatest value.
        return limit / max(1.0, float(np.abs(recorded[name]).max(initial=0.0))) if absolute else limit

    return Method(
        replay=lambda recording: protocol.replay(about, _Told(recording.arrays)),
        is_input=lambda name: name.startswith(INPUTS),
        tolerance=tolerance,
        split=lambda recording, arrays: protocol.split(
            about, {**arrays, **results} if arrays is recording.arrays else arrays
        ),
        floor=lambda recording: lambda name: 1.0 if absolute else 0.0,
    )


def _keyed(protocol: Protocol, about: Mapping[str, Any], fixture: Fixture) -> Method:
    """:func:`method` of a recording whose sidecar says of every array how exact it is."""
    tolerances = Tolerances(about['keys'], fixture.arrays)
    return Method(
        replay=lambda recording: protocol.replay(about, _Told(recording.arrays)),
        is_input=tolerances.is_input,
        tolerance=tolerances.limit,
        split=lambda recording, arrays: protocol.split(about, _Told(arrays)),
        floor=lambda recording: lambda name: 1.0,
    )


def _guarded(name: str, protocol: Protocol) -> Protocol:
    """A protocol for which a recording that does not fit together is the user's error, too."""

    def guarded(function: Callable[..., dict[str, np.ndarray]]) -> Callable[..., dict[str, np.ndarray]]:
        def call(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            try:
                return function(about, arrays)
            except InputError:
                raise
            except Exception as error:  # what is wrong shows wherever it is first used
                reason = ' '.join(str(error).split())[:200]
                raise InputError(
                    f'The recording cannot be replayed as {name} ({type(error).__name__}: {reason}): its arrays and '
                    'settings do not fit together.'
                ) from error

        return call

    return replace(protocol, replay=guarded(protocol.replay), split=guarded(protocol.split))


def _numbers(table: Any, name: str) -> dict[str, np.ndarray]:
    """Numbers in a table of tables, by their path."""
    if not isinstance(table, dict):
        return {name: np.asarray(float(table))}
    return {path: value for key, each in table.items() for path, value in _numbers(each, f'{name}.{key}').items()}


def _limits(tolerance: Mapping[str, Any]) -> Callable[[str, np.dtype], float]:
    """The greatest error of a quantity by its name and type, as the sidecar words it.

    ``{'metric': 'exact'}`` holds for all; otherwise a clause of the note, as in ``'votes; predictions and accuracy
    exact'`` or ``'out.lr* exact to 1e-12'``, says which are. What is whole numbers is exact always.
    """
    clauses = [each for each in re.split(r'[;:]', tolerance.get('note', '')) if re.search(r'\bexact\b', each)]
    value = float(tolerance['value'])

    def named(name: str, clause: str) -> bool:
        # Numbers name nothing: `1e-12` is not of `final.1.weight`.
        words = [word for word in clause.replace(',', ' ').split() if not word[0].isdigit()]
        parts = {part for part in re.split(r'[._]', name) if len(part) > 2} | set(name.split('.'))
        parts -= {'out'}
        return any(
            fnmatchcase(name, word) if '.' in word or '*' in word else any(word.startswith(p) for p in parts if p)
            for word in words
        )

    def limit(name: str, dtype: np.dtype) -> float:
        if dtype.kind in 'biu':
            return 0.0
        if tolerance.get('metric') == 'exact':
            return EXACT
        for clause in clauses:
            if named(name, clause):
                stated = re.search(r'exact to (\d\S*\d|\d)', clause)
                return float(stated[1]) if stated else EXACT
        return value

    return limit
