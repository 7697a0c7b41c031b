"""Replays of data2vec: the given recordings, others of other sizes, and what they refuse."""

import numpy as np
import pytest

from mmmim.converters.data2vec import LAYOUT
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.parity import METHODS, check, data2vec, data2vec2
from mmmim.parity.report import Fixture, compare
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.reference_data2vec import record

NAMES = ('data2vec', 'data2vec2')


def given(name):
    return Fixture.load(ROOT / f'tests/data/{name}_tiny.npz')


def failures(name, fixture):
    rows, _ = check(METHODS[name], fixture)
    return {f'{row.name}: {row.verdict}, {row.error}' for row in rows if row.failed}


@pytest.mark.parametrize('name', NAMES)
def test_the_given_recording(name):
    fixture = given(name)
    assert failures(name, fixture) == set()
    parts = {key: value for key, value in fixture.arrays.items() if not key.startswith(('steps/', 'grad/'))}
    assert failures(name, Fixture(parts, fixture.settings)) == set()


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'grid': [3, 3], 'depth': 2, 'heads': 2, 'target_layers': [1], 'masked_per_image': 2, 'loss': 'fc_instance'},
        {'grid': [3, 1], 'patch': 2, 'width': 20, 'heads': 5, 'batch': 4, 'mlp_ratio': 4, 'masked_per_image': 2,
         'loss': 'code_without_layer_norm', 'steps': 3},
    ],
    ids=str,
)  # fmt: skip
def test_recordings_of_other_sizes(options):
    """Of an independent data2vec: grids that are no squares, other blocks, losses and numbers of steps."""
    assert failures('data2vec', Fixture(*record(seed=1, **options))) == set()


@pytest.mark.parametrize('name', NAMES)
def test_every_quantity_is_compared(name):
    """Ten tolerances off at its largest entry it is refused; so is what nobody knows."""
    fixture, method = given(name), METHODS[name]
    computed = method.replay(fixture)
    rows = method.rows(Fixture(fixture.arrays | {'new': np.zeros(3)}, fixture.settings), computed)
    assert [row.name for row in rows if row.failed] == ['new']
    assert len(rows) > 80
    for key, array in fixture.arrays.items():
        if method.is_input(key):
            continue
        moved = np.array(array, dtype=np.float64)
        largest = np.abs(moved).argmax()
        moved.flat[largest] += 10 * method.tolerance(key) * np.abs(moved.flat[largest])
        (row,) = compare({key: moved}, computed, method.is_input, method.tolerance)
        assert row.verdict == 'DIFFERS', key


def test_parameter_groups_are_the_recorded_ones():
    groups = given('data2vec').settings['optimiser']['weight_decay_groups']
    recorded = {key: kind == 'decay' for kind, keys in groups.items() for key in keys}
    undecayed = given('data2vec2').settings['optimiser']['no_decay']
    names = [key.removeprefix('param/') for key in given('data2vec2').arrays if key.startswith('param/')]
    second = {key: key not in undecayed for key in names if not key.endswith('positions')}
    for module, name, expected in ((data2vec, 'data2vec', recorded), (data2vec2, 'data2vec2', second)):
        fixture = given(name)
        model = module.build_model(fixture)
        layout = LAYOUT if module is data2vec else data2vec2.layout_of(fixture)
        parameters = dict(model.named_parameters())
        made = parameter_groups(model, 1.0, 0.05, module.RULES)
        found = {id(p): bool(group['weight_decay']) for group in made for p in group['params']}
        for key, decays in expected.items():
            for own in layout.names(key):
                assert found.pop(id(parameters[own])) == decays, key
        assert found == {}


WRONG = {
    'data2vec': [
        ('param/norm.weight', None, 'backbone.norm.weight'),
        ('param/extra', lambda _: np.zeros(3), r'not in the layout of data2vec .* e\.g\. extra'),
        ('images', lambda a: a[..., :-1], r'images has the shape .*: images of \(32, 32\) pixels were expected'),
        ('images', lambda a: a[:1], r'masks has the shape'),
        ('masks', lambda a: np.zeros_like(a), 'masked patches: as many of every image, and not all'),
        ('/config/heads', 5, '5 attention heads do not divide the width 24'),
        ('/config/depth', 3, "which have {'depth': 4}"),
        ('/config/grid', [4], r'config.grid=\[4\]: a side, or height and width'),
        ('/config/image', 24, r"{'image': \[32, 32\]}"),
        ('/config/target_layers', [4], 'There is no block 4 in an encoder of 4'),
        ('/optimiser/loss', 'other', "optimiser.loss='other': one of recipe"),
        ('/optimiser/betas', None, "lacks 'optimiser.betas'"),
    ],
    'data2vec2': [
        ('param/blocks.2.norm1.bias', None, 'backbone.blocks.3.norm1.bias'),
        ('noise', lambda a: a[..., :-1], 'noise has the shape'),
        ('masks', lambda a: a[:, :-1], 'masks has the shape'),
        ('masks', lambda a: np.ones_like(a), 'masked patches: as many in every mask, and not all'),
        ('/config/decoder/kernel', 5, "which have {'kernel': 3}"),
        ('/config/prenet_depth', 0, 'twice'),
        ('/config/average_top_k', None, "lacks 'config.average_top_k'"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'what', 'change', 'message'), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_recordings_that_cannot_be_used_are_refused_by_name(name, what, change, message):
    fixture = given(name)
    arrays = dict(fixture.arrays)
    if what.startswith('/'):
        *path, last = what[1:].split('/')
        node = fixture.settings
        for part in path:
            node = node[part]
        node.pop(last) if change is None else node.update({last: change})
    elif change is None:
        del arrays[what]
    else:
        arrays[what] = change(arrays.get(what))
    with pytest.raises(InputError, match=message):
        check(METHODS[name], Fixture(arrays, fixture.settings))
