"""Recordings of every method: the given one, and small ones that an independent implementation makes."""

import json
from dataclasses import dataclass, field
from typing import Any

from mmmim.parity import METHODS, Fixture
from tests import (
    reference_capi,
    reference_crossmae,
    reference_ijepa,
    reference_latent_mim,
    reference_pilamim,
    reference_semantic_mim,
)
from tests.paths import ROOT


@dataclass(frozen=True)
class Run:
    """A kind of recording.

    Attributes:
        name: Of the method.
        reference: The independent implementation, with ``record`` and ``replay``.
        file: The given recording, without its ending.
        small: Of a small recording: other settings than those of the given one, so that a replay takes no time.
        fixed: Options of ``record`` that all recordings share.
        only_given: What the given recording has and small ones have not, since its size does not matter.
    """

    name: str
    reference: Any
    file: str
    small: dict
    fixed: dict = field(default_factory=dict)
    only_given: tuple = ()

    @property
    def method(self):
        return METHODS[self.name]

    def given(self):
        return Fixture.load(ROOT / f'tests/data/{self.file}.npz')

    def record(self, folder, **changes):
        """The small recording, or one of changed settings."""
        return self.as_given(folder, **{**self.small, **changes})

    def as_given(self, folder, **settings):
        return Fixture.load(self.reference.record(folder / 'recording.npz', **self.fixed, **settings))

    def quantities(self, fixture):
        """Everything that is to be compared, by name."""
        recorded = self.method.split(fixture, fixture.arrays)
        return {name: value for name, value in recorded.items() if not self.method.is_input(name)}

    def failures(self, fixture):
        """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
        rows = self.method.rows(fixture, self.method.replay(fixture))
        assert {row.name for row in rows} == set(self.quantities(fixture))
        assert all((row.error is None) == (self.method.tolerance(row.name) is None) for row in rows)
        return {row.name for row in rows if row.failed}


def changed(settings, path, value=None):
    """A copy of settings with one of another value; without one, None."""
    settings = json.loads(json.dumps(settings))
    *parents, key = path.split('/')
    node = settings
    for parent in parents:
        node = node[parent]
    if value is None:
        del node[key]
    else:
        node[key] = value
    return settings


_SEMANTIC = dict(dim=16, heads=2, depth=2, proxy=2)
_INIT = ('init/', 'sched/')
_BESIDE = ('init/', 'baseline/', 'eval/')
_BEIT, _MASKFEAT = dict(img=12, patch=4, vocab=6, **_SEMANTIC), dict(img=32, patch=8, **_SEMANTIC)
RUNS = {
    'capi': Run('capi', reference_capi, 'capi_tiny', reference_capi.SMALL, {}, ('eval_',)),
    'crossmae': Run('crossmae', reference_crossmae, 'crossmae_tiny', reference_crossmae.SMALL),
    'ijepa': Run(
        'ijepa', reference_ijepa, 'ijepa_tiny', reference_ijepa.SMALL, {}, ('eps.', 'pos_table', 'sched.', 'draw.')
    ),
    'latent_mim': Run(
        'latent_mim',
        reference_latent_mim,
        'latentmim_tiny',
        reference_latent_mim.SMALL,
        {},
        (*_INIT, 'eval/', 'variant/', 'loss_variant/'),
    ),
    'pilamim': Run(
        'pilamim',
        reference_pilamim,
        'pilamim_tiny',
        reference_pilamim.SMALL,
        {},
        (*_INIT, 'probe/', 'lars/', 'patch_pixels', 'released/', 'traj/released/'),
    ),
    'semantic_mim_beit': Run(
        'semantic_mim', reference_semantic_mim, 'semanticmim_beit_tiny', _BEIT, {'kind': 'beit'}, _BESIDE
    ),
    'semantic_mim_maskfeat': Run(
        'semantic_mim', reference_semantic_mim, 'semanticmim_maskfeat_tiny', _MASKFEAT, {'kind': 'maskfeat'}, _BESIDE
    ),
}
