import json

import numpy as np
import pytest

from mmmim.parity import Fixture, capi, compare
from mmmim.utils import InputError
from tests.paths import FIXTURE, run_tool


@pytest.fixture(scope='module')
def recorded():
    return Fixture.load(FIXTURE)


def rows_of(fixture, computed):
    return compare(fixture.arrays, computed, capi.is_input, capi.tolerance)


def test_capi_is_the_recorded_run(recorded):
    computed = capi.replay(recorded)
    rows = rows_of(recorded, computed)
    assert [row for row in rows if row.failed] == []
    exempt = {row.name for row in rows if row.verdict == 'exempt'}
    assert all(name.startswith('gradnorm.') and name.endswith('rope.freqs') for name in exempt)
    outputs = {name for name in recorded.arrays if not capi.is_input(name)}
    assert {row.name for row in rows} == outputs
    for name in (
        'teacher_patches',
        'assignments',
        'targets',
        'student_visible',
        'predictions',
        'logits',
        'eval_global',
    ):
        assert name in outputs


@pytest.mark.parametrize(
    'key',
    [
        'sd.student.encoder.blocks.1.residual2.fn.fc1.weight',
        'sd.teacher.encoder.blocks.0.residual1.fn.q_proj.weight',
        'sd.student.decoder.blocks.1.residual1.fn.v_proj.weight',
        'sd.clustering.layer.weight',
        'sd.student_head.last_layer.weight_v',
    ],
)
def test_one_weight_changed_by_a_percent_is_seen(recorded, key):
    weight = recorded.arrays[key].copy()
    weight.flat[np.abs(weight).argmax()] *= 1.01
    changed = Fixture({**recorded.arrays, key: weight}, recorded.settings)
    failed = [row for row in rows_of(recorded, capi.replay(changed)) if row.failed]
    assert failed
    assert all(row.verdict == 'DIFFERS' for row in failed)


def test_changed_optimiser_settings_are_seen(recorded):
    settings = json.loads(json.dumps(recorded.settings))
    settings['optimiser']['student']['norm_weight_wd_factor'] = 0.0
    rows = rows_of(recorded, capi.replay(Fixture(recorded.arrays, settings)))
    assert {row.name.split('.')[-2] for row in rows if row.failed} == {'norm'}


def test_a_quantity_that_was_not_computed_fails(recorded):
    arrays = {**recorded.arrays, 'something_new': np.zeros(3)}
    rows = rows_of(Fixture(arrays, recorded.settings), {'something_new': np.zeros(2)})
    verdicts = {row.name: row.verdict for row in rows}
    assert verdicts['something_new'].startswith('shape')
    assert verdicts['capi_loss'] == 'not computed'
    nan = compare({'a': np.ones(2)}, {'a': np.array([1.0, np.nan])}, lambda n: False, lambda n: 1.0)
    assert nan[0].failed


def test_command_line(recorded, tmp_path):
    dump = tmp_path / 'out.npz'
    result = run_tool('analysis_tools/check_parity.py', 'capi', FIXTURE, '--dump', dump)
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'capi_loss' in result.stdout
    with np.load(dump) as dumped:
        for name, value in recorded.arrays.items():
            if not capi.is_input(name) and capi.tolerance(name) is not None:
                np.testing.assert_allclose(dumped[name], value, rtol=1e-3, atol=1e-4)

    arrays = {**recorded.arrays, 'capi_loss': recorded.arrays['capi_loss'] * 1.01}
    np.savez(tmp_path / 'wrong.npz', **arrays)
    (tmp_path / 'wrong.json').write_text(json.dumps(recorded.settings))
    result = run_tool('analysis_tools/check_parity.py', 'capi', tmp_path / 'wrong.npz')
    assert result.returncode == 1
    assert 'DIFFERS' in result.stdout


def test_recordings_that_cannot_be_used(recorded, tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        Fixture.load(tmp_path / 'none.npz')
    (tmp_path / 'bad.npz').write_bytes(b'PK nonsense')
    (tmp_path / 'bad.json').write_text('{}')
    with pytest.raises(InputError, match=r'not a readable \.npz'):
        Fixture.load(tmp_path / 'bad.npz')
    with pytest.raises(InputError, match="'enc': 3"):
        capi.replay(Fixture(recorded.arrays, {**recorded.settings, 'enc': 5}))
    indices = recorded.arrays['visible_indices'][1:]
    with pytest.raises(InputError, match='visible_indices'):
        capi.replay(Fixture({**recorded.arrays, 'visible_indices': indices}, recorded.settings))
