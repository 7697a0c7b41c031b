"""Recorded protocols of evaluation, the given ones and small ones by plain implementations, replayed by mmmim."""

import json

import numpy as np
import pytest

from mmmim.cli.parity import main
from mmmim.parity import Fixture, check, method_of, protocol
from mmmim.utils import InputError
from tests.paths import ROOT

#: Recordings of the authors' code in ``tests/data``.
GIVEN = [
    'capi_probe',
    'capi_select',
    'clevr_labels',
    'davis_frames',
    'davis_metrics',
    'dino_weighted_knn',
    'fewshot_sampling',
    'label_propagation',
    'latentmim_1nn',
    'layer_decay',
    'mae_crop',
    'mae_linprobe_lars',
    'object_discovery',
    'patch_clustering',
    'pilamim_linprobe_lars',
    'rankme',
    'semanticmim_probe_features',
]


#: Larger changes, where a recording allows for more than a thousandth.
COARSE = {'frame': 0.02}


def given(name):
    return Fixture.load(ROOT / f'tests/data/{name}.npz')


def failures(fixture):
    rows, _ = check(method_of('protocol', fixture), fixture)
    assert rows
    return {row.name for row in rows if row.failed}


def test_every_protocol_has_a_recording():
    assert {protocol.recognised(given(name)) for name in GIVEN} == set(protocol.PROTOCOLS)


@pytest.mark.parametrize('name', GIVEN)
def test_given(name):
    """Every quantity agrees, and none that is changed does: by one where it is a whole number."""
    fixture = given(name)
    assert failures(fixture) == set()
    method = method_of('protocol', fixture)
    for changed in (each for each in fixture.arrays if not method.is_input(each)):
        value = fixture.arrays[changed]
        other = value.copy()
        if value.dtype.kind in 'biu':  # one number, as labels of clusters may be numbered in any way
            other.flat[0] = ~other.flat[0] if value.dtype == bool else other.flat[0] + 1
        else:
            other += COARSE.get(changed, 1e-3) * max(abs(value).max(), 1e-3)
        assert failures(Fixture({**fixture.arrays, changed: other}, fixture.settings)), changed


def test_what_is_no_protocol():
    with pytest.raises(InputError, match=r'The recording \(a poem\) is of no protocol that is known: there'):
        method_of('protocol', Fixture({}, {'what': 'a poem', 'settings': {}}))
    fixture = given('rankme')
    with pytest.raises(InputError, match="lacks 'tolerance'"):
        method_of('protocol', Fixture(fixture.arrays, {}))
    with pytest.raises(InputError, match=r"lacks 'in\.z0'"):
        failures(Fixture({name: v for name, v in fixture.arrays.items() if name != 'in.z0'}, fixture.settings))


def drop(*path):
    def change(settings):
        for key in path[:-1]:
            settings = settings[key]
        del settings[path[-1]]

    return change


def put(value, *path):
    def change(settings):
        for key in path[:-1]:
            settings = settings[key]
        settings[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('object_discovery', drop('config', 'eps'), "lacks 'eps'"),
        ('object_discovery', drop('cases', 'case1', 'taus'), "lacks 'taus'"),
        ('object_discovery', drop('keys', 'iou'), "must say how exact 'iou' is"),
        ('object_discovery', put(3, 'keys', 'iou', 'tolerance'), "must say how exact 'iou' is"),
        ('object_discovery', put('near', 'keys', 'iou', 'tolerance'), "must say how exact 'iou' is"),
        ('object_discovery', put(11, 'cases', 'case0', 'h'), '240 patches do not fill a grid of 11 x 20'),
        ('object_discovery', put(None, 'cases', 'case0', 'h'), 'cannot be replayed as object_discovery'),
        ('object_discovery', put([1], 'cases', 'case0'), 'cannot be replayed as object_discovery'),
        ('object_discovery', put('x', 'cases'), 'cannot be replayed as object_discovery'),
        ('patch_clustering', put([[3, 99]], 'queries'), 'asks for the patch in row 3 and column 99 of 12 x 20'),
        ('patch_clustering', put([3], 'queries'), 'cannot be replayed as patch_clustering'),
        ('patch_clustering', put(['two'], 'clusters'), 'cannot be replayed as patch_clustering'),
        ('patch_clustering', drop('cuts'), "lacks 'cuts'"),
    ],
)
def test_malformed_sidecars(name, change, message):
    fixture = given(name)
    change(fixture.settings)
    with pytest.raises(InputError, match=message):
        failures(fixture)


def test_malformed_arrays():
    fixture = given('patch_clustering')
    for value in (np.zeros((3, 4)), np.full((2, 3, 4), np.nan), np.array([['a']])):
        with pytest.raises(InputError):
            failures(Fixture({**fixture.arrays, 'feats': value}, fixture.settings))
    fixture = given('object_discovery')
    with pytest.raises(InputError, match=r"lacks 'case0\.tokens'"):
        failures(Fixture({k: v for k, v in fixture.arrays.items() if k != 'case0.tokens'}, fixture.settings))


def test_records_of_other_sizes():
    """Of one case alone, with other settings; partitions are compared whatever their numbers are."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(4, 3, 5))
    settings = {
        'clusters': [2, 4],
        'cuts': [0.5],
        'queries': [[0, 1]],
        'thresholds': [0.0],
        'keys': {'feats': {'tolerance': 'input'}},
    }
    empty = Fixture({'feats': features}, settings)
    computed = method_of('protocol', empty).replay(empty)
    assert computed['ward_unit.clusters'].shape == (2, 4, 3)
    settings['keys'] |= {
        'ward_unit.clusters': {'tolerance': 'exact as a partition'},
        'similarity': {'tolerance': 'abs 1e-6'},
        'note': {'tolerance': 'information'},
    }
    recorded = {
        'feats': features,
        'ward_unit.clusters': 7 - computed['ward_unit.clusters'],
        'similarity': computed['similarity'] + 1e-7,
        'note': np.zeros(3),
    }
    assert failures(Fixture(recorded, settings)) == set()
    moved = recorded['ward_unit.clusters'].copy()
    moved[0, 0, 0] = 3
    assert failures(Fixture({**recorded, 'ward_unit.clusters': moved}, settings)) == {'ward_unit.clusters'}
    far = recorded['similarity'] + 1e-5
    assert failures(Fixture({**recorded, 'similarity': far}, settings)) == {'similarity'}


@pytest.mark.parametrize(
    ('tolerance', 'limits'),
    [
        (
            {'note': 'votes; predictions and accuracy exact'},
            {'out.votes': 1e-5, 'out.acc_percent': 0},
        ),
        ({'note': 'out.lr* exact to 1e-12'}, {'out.lr': 1e-12, 'out.lr_all': 1e-12, 'out.wd0.loss': 1e-5}),
        (
            {'note': 'out.* and final.*; sched.* exact to 1e-12; EXEMPT: noise'},
            {'sched.all': 1e-12, 'final.1.w': 1e-5},
        ),
        ({'metric': 'exact', 'value': 0}, {'out.loss': 0}),
        ({'metric': 'absolute'}, {'out.large': 1e-5 / 4, 'out.small': 1e-5}),
    ],
)
def test_tolerances(tolerance, limits):
    """As the sidecar words them; what is exact may be off by the last bits of a float, and not at all as a number."""
    fixture = given('rankme')
    arrays = {name: np.asarray(4.0 if name == 'out.large' else 0.5) for name in limits}
    settings = {**fixture.settings, 'tolerance': {'metric': 'relative', 'value': 1e-5, **tolerance}}
    method = method_of('protocol', Fixture({**fixture.arrays, **arrays}, settings))
    assert {name: method.tolerance(name) for name in limits} == {
        name: limit or pytest.approx(4.8e-7, rel=0.01) for name, limit in limits.items()
    }
    whole = {name: np.asarray(3) for name in limits}
    method = method_of('protocol', Fixture({**fixture.arrays, **whole}, settings))
    assert [method.tolerance(name) for name in limits] == [0.0] * len(limits)


def test_doubtful_pixels_do_not_count():
    fixture, name = given('label_propagation'), 'radius3_ctx2_k5'
    hard = fixture.arrays[f'{name}.hard'].copy()
    doubtful = np.zeros(hard[1:].shape, bool)
    doubtful[2, 5, 7] = True
    hard[3, 5, 7] += 1
    changed = {**fixture.arrays, f'{name}.hard': hard}
    assert failures(Fixture(changed, fixture.settings)) == {f'{name}.hard'}
    changed[f'{name}.doubtful'] = np.packbits(doubtful)
    assert failures(Fixture(changed, fixture.settings)) == set()


def test_other_sizes_of_label_propagation():
    """The settings that a replay reads are the recording's own."""
    fixture = given('label_propagation')
    cases = {'one': {'radius': 1, 'n_last_frames': 1, 'topk': 3}}
    rng = np.random.default_rng(0)
    annotation = np.zeros((30, 44), np.uint8)
    annotation[5:20, 8:30] = 2
    annotation[0, 0] = 3  # vanishes on the grid
    arrays = {'feats': rng.normal(size=(3, 5, 7, 4)).astype(np.float32), 'first_label': annotation}
    shapes = {'soft': (2, 3, 5, 7), 'hard': (3, 30, 44), 'norm_last': (3, 20, 28), 'doubtful': (330,)}
    arrays |= {'first_small': np.full((5, 7), 2), 'first_one_hot': np.zeros((3, 5, 7))}
    arrays |= {f'one.{key}': np.zeros(shape, np.uint8) for key, shape in shapes.items()}
    config = {'patch_size': 8, 'temperature': 0.2}
    read = ('feats', 'first_label', 'one.doubtful')
    keys = {name: {'tolerance': 'input' if name in read else 'exact'} for name in arrays}
    settings = {**fixture.settings, 'cases': cases, 'config': config, 'keys': keys}
    rows, computed = check(method_of('protocol', Fixture(arrays, settings)), Fixture(arrays, settings))
    assert {row.verdict for row in rows} <= {'ok', 'DIFFERS'}
    assert np.allclose(computed['one.soft'].sum(axis=1), 1)
    assert (computed['one.hard'][0].max(), computed['one.hard'][1:].max()) == (3, 2)
    assert computed['first_small'].max() == 2


def damaged(name, arrays=None, **settings):
    fixture = given(name)
    return Fixture({**fixture.arrays, **(arrays or {})}, {**fixture.settings, **settings})


@pytest.mark.parametrize(
    ('fixture', 'message'),
    [
        (damaged('label_propagation', {'feats': np.zeros((6, 12))}), r'must have feats \[T, h, w, D\]'),
        (damaged('label_propagation', {'first_label': np.zeros((3, 3))}), 'first_label .H, W. uint8'),
        (damaged('label_propagation', cases={'a': {}}), "lacks 'n_last_frames'"),
        (damaged('label_propagation', cases={'a': {'n_last_frames': -1}}), 'n_last_frames=-1 .* is no whole number'),
        (damaged('label_propagation', cases=[1, 2]), r'cannot be replayed as label_propagation .AttributeError'),
        (damaged('label_propagation', config={}), "lacks 'patch_size'"),
        (damaged('label_propagation', config={'patch_size': 10**9}), 'up to 64 is replayed'),
        (damaged('label_propagation', {'radius3_ctx2_k5.doubtful': np.zeros(3, np.uint8)}), 'does not hold the bits'),
        (damaged('label_propagation', keys=3), "how exact 'feats' is"),
        (damaged('label_propagation', keys={}), "how exact 'feats' is"),
        (damaged('davis_frames', {'image_sizes': np.zeros((2, 2), int)}), 'no list of heights and widths'),
        (damaged('davis_frames', {'image_bgr': np.zeros((2, 2), np.uint8)}), 'no image'),
        (damaged('davis_frames', config={'short_side': 10**9}), 'is not that of its frame'),
        (damaged('davis_metrics', config={'H': 10**9, 'W': 10**9}), 'does not hold the bits of 27 x 10+ x 10+'),
        (damaged('davis_metrics', config={'H': '60', 'W': 101}), 'H=60 of the recording is no whole number'),
        (damaged('davis_metrics', {'seq0.prediction': np.zeros((7, 3, 3), np.uint8)}), '3 x 3 in the prediction'),
        (damaged('davis_metrics', objects=['seq9_1']), r"lacks 'seq9\.ground_truth'"),
        (damaged('davis_metrics', bound_th='0.008'), 'cannot be replayed as davis_metrics .ValueError'),
        (damaged('davis_metrics', {'series_length': np.zeros((2, 2))}), 'cannot be replayed as davis_metrics'),
        (damaged('rankme', {'in.z0': np.zeros(3, '<U3')}), 'cannot be replayed as rankme .TypeError'),
    ],
)
def test_recordings_that_do_not_fit_together(fixture, message):
    with pytest.raises(InputError, match=message) as error:
        failures(fixture)
    assert len(str(error.value)) < 400


def test_the_command(tmp_path, capsys):
    """By its sidecar, whatever the file is called."""
    fixture, file = given('rankme'), tmp_path / 'record.npz'
    file.with_suffix('.json').write_text(json.dumps(fixture.settings))
    np.savez(file, **fixture.arrays)
    assert main(['protocol', str(file), '--dump', str(tmp_path / 'out.npz')]) == 0
    assert '4 of 4 quantities agree' in capsys.readouterr().out
    with np.load(tmp_path / 'out.npz') as dumped:
        assert set(dumped.files) == {name for name in fixture.arrays if name.startswith('out.')}
    np.savez(file, **{**fixture.arrays, 'out.other': np.zeros(1), 'out.eps1e-7.z1': np.asarray(3.0)})
    assert main(['protocol', str(file)]) == 1
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if 'DIFFERS' in line] == ['out.eps1e-7.z1']
    assert 'not computed' in out
