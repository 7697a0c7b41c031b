import json

import numpy as np
import pytest

from mmmim.config.hashes import curves_hash
from mmmim.config.read import load_config
from mmmim.evaluation.measures.expected import curves_outside, make_bands, read_expected, write_expected
from mmmim.utils import InputError
from tests.paths import ROOT

STEPS = np.arange(10, 110, 10.0)
EXPECTED = sorted([*ROOT.glob('configs/*/expected.json'), *ROOT.glob('projects/*/configs/expected.json')])


def run(*losses, **others):
    return {'loss': (STEPS, np.array(losses, float) * np.ones(10)), **others}


@pytest.mark.parametrize('runs', [2, 3, 5])
def test_a_further_run_is_in_the_band_as_often_as_is_said(runs):
    drawn = np.random.default_rng(0).normal(5, 2, (4000, runs + 1))
    inside = 0
    for *seen, further in drawn:
        band = make_bands([run(value) for value in seen])['loss']
        inside += band.low[0] < further < band.high[0]
    assert inside / len(drawn) == pytest.approx(0.95, abs=0.012)


def test_a_band_is_no_narrower_where_runs_happen_to_agree():
    agree = np.array([0.0] + [1.0] * 9)
    band = make_bands([run(*agree), run(*-agree)])['loss']
    np.testing.assert_allclose(band.high - band.low, band.high[-1] - band.low[-1])


def test_only_what_all_runs_logged_at_the_same_steps_has_a_band():
    lr, other = (STEPS, STEPS), (STEPS[:5], STEPS[:5])
    runs = [run(1, lr=lr, a=lr, b=lr), run(2, lr=lr, a=other, b=lr)]
    assert set(make_bands(runs)) == {'loss', 'b'}
    with pytest.raises(InputError, match='at least two runs'):
        make_bands(runs[:1])
    with pytest.raises(InputError, match='no quantity'):
        make_bands([{'lr': lr}, {'lr': lr}])


def test_a_run_is_inside_or_says_where_it_was_not():
    bands = make_bands([run(1.0), run(2.0), run(3.0)])  # 2 plus and minus 4.97
    assert curves_outside(run(6.9), bands) == []
    once, twice = np.ones(10), np.ones(10)
    once[4], twice[4:6] = 9, (9, np.nan)
    assert curves_outside(run(*once), bands) == []
    assert curves_outside(run(*twice), bands) == [
        'loss at 2 of 10 points, first at iteration 50 (9, healthy runs -2.968 to 6.968)'
    ]
    assert curves_outside({'other': (STEPS, STEPS)}, bands) == []
    short = {'loss': (STEPS[:3] + 5, STEPS[:3])}  # logged at other steps
    assert curves_outside(short, bands) == []


def test_files(tmp_path):
    config = str(tmp_path / 'small.py')
    assert read_expected(config, 'abc') is None
    bands = make_bands([run(1.23456), run(2.0)])
    write_expected(str(tmp_path / 'another.py'), 'abc', 2, bands, 'seeds 0, 1')
    path = write_expected(config, 'abc', 2, bands, 'seeds 0, 1')
    assert list(json.loads(path.read_text())) == ['another', 'small']
    runs, read = read_expected(config, 'abc')
    assert runs == 2
    np.testing.assert_allclose(read['loss'], bands['loss'], rtol=1e-3)
    assert read_expected(config, 'other settings') is None
    content = json.loads(path.read_text())
    for damage in ([], {'small': {'hash': 'abc', 'runs': 2, 'curves': {'loss': [[1], [2], [3, 4]]}}}, {'small': 1}):
        path.write_text(json.dumps(damage))
        with pytest.raises(InputError, match=r'expected.json is damaged .*: make it anew'):
            read_expected(config, 'abc')
    path.write_text(json.dumps(content)[:-5])
    with pytest.raises(InputError, match='damaged'):
        read_expected(config, 'abc')


def test_a_hash_is_of_what_decides_the_curves():
    def hashed(key=None, value=None):
        cfg = load_config(str(ROOT / 'configs/mae/small.py'))
        if key:
            cfg.merge_from_dict({key: value})
        return curves_hash(cfg)

    same = ('randomness.seed', 'train_dataloader.num_workers', 'default_hooks.probe.interval', 'train_cfg.val_interval')
    assert {hashed(key, 7) for key in same} == {hashed()}
    assert hashed('train_dataloader.dataset.dataset.data_root', 'elsewhere') == hashed()
    others = ('optim_wrapper.optimizer.lr', 'train_cfg.max_iters', 'global_batch_size', 'model.backbone.depth')
    assert len({hashed(), *(hashed(key, 7) for key in others)}) == 5


@pytest.mark.parametrize('file', EXPECTED, ids=lambda file: file.parent.relative_to(ROOT).as_posix())
def test_bands_in_the_repository_are_of_the_configs_as_they_are(file):
    for name in json.loads(file.read_text()):
        config = file.with_name(f'{name}.py')
        runs, bands = read_expected(str(config), curves_hash(load_config(str(config))))
        assert runs >= 3
        assert {'loss', 'probe/student_quick_knn_pooled', 'health/student_rankme_pooled'} <= {*bands}
