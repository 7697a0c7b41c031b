"""The table of scores that a training writes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmmim.engine.hooks import ProbeHook
from mmmim.engine.hooks.probe_hook import read_rows
from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import encoders
from mmmim.features.labelled_images import LabelledImages
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.runs import assert_same, log_of, pretraining, rows_of, start

PIPELINE = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.Resize', scale=32), dict(type='mmpretrain.PackInputs')]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two classes: one bright in the left half, one in the right."""
    folder = tmp_path_factory.mktemp('labelled')
    rng = np.random.default_rng(0)
    for label, name in enumerate(('cat', 'dog')):
        (folder / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 200, (40, 40, 3), dtype=np.uint8)
            pixels[:, 20 * label : 20 * label + 20] //= 2
            Image.fromarray(pixels).save(folder / name / f'{i}.png')
    return folder


def make(images, work_dir, iterations=2, interval=2, name='capi/small', labels=True, **changes):
    probe = {'train_cfg__max_iters': iterations, 'default_hooks__checkpoint__interval': 2}
    cfg = pretraining(name, images, work_dir, **probe, default_hooks__probe__interval=interval, **changes)
    data = dict(type='mmmim.ImageFolder', data_root=str(images), with_label=labels, pipeline=PIPELINE)
    cfg.pop('probe_data', None)
    cfg.probe_data = dict(train=data, val=data)
    return cfg


def table(folder):
    return json.loads((folder / 'probes.json').read_text())


def test_table_with_the_random_initialisation_first(images, tmp_path):
    linear = ('all', 'pooled', 'pooled@0+registers')
    cfg = make(images, tmp_path, 3, default_hooks__probe__linear=linear)
    runner = start(cfg)
    rows = table(tmp_path)
    assert [row['iter'] for row in rows] == [0, 2, 3]
    scores = {f'quick_{name}' for name in ('knn_predicted', 'knn_pooled', 'linear_all', 'linear_pooled')}
    scores |= {f'quick_{probe}_{linear[-1]}' for probe in ('knn', 'linear')}
    assert set(rows[0]) == {'iter'} | {f'student_{score}' for score in scores}
    assert set(rows[1]) == set(rows[0]) | {f'teacher_{score}' for score in scores}
    # The last row is what the probes say of the trained model, when they are asked directly.
    data = LabelledImages.read(DATASETS.build(cfg.probe_data.train))
    for name, extract in encoders(runner.model, linear).items():
        expected = quick_scores(extract, data, data, linear)
        assert {key: rows[-1][f'{name}_{key}'] for key in expected} == pytest.approx(expected)
    assert (
        len({row['student_quick_knn_pooled'] for row in rows} | {row['teacher_quick_knn_pooled'] for row in rows[1:]})
        > 1
    )
    assert '| start     | student |' in log_of(runner)
    assert '% of the run so far' in log_of(runner)
    assert [row['step'] for row in rows_of(runner) if 'probe/student_quick_knn_pooled' in row] == [0, 2, 3]
    # Rows after the checkpoint are those of another training.
    (tmp_path / 'probes.json').write_text(json.dumps([*rows, {**rows[1], 'iter': 5}]))
    start(make(images, tmp_path, 4, resume='auto'))
    assert table(tmp_path)[:3] == rows
    assert [row['iter'] for row in table(tmp_path)] == [0, 2, 3, 4]
    # One whose table was lost invents no start.
    (tmp_path / 'probes.json').unlink()
    assert '| start' not in log_of(start(make(images, tmp_path, 6, resume='auto')))
    assert [row['iter'] for row in table(tmp_path)] == [4, 6]


def test_without_labels_it_says_so_once(images, tmp_path):
    for labels, name in ((False, 'a'), (None, 'b')):
        cfg = make(images, tmp_path / name, name='mae/small', labels=bool(labels))
        if labels is None:
            cfg.pop('probe_data')
        assert log_of(start(cfg)).count('Probes: no labelled images') == 1
        assert not (tmp_path / name / 'probes.json').exists()


def test_training_is_the_same_with_and_without(images, tmp_path):
    """A teacher that was loaded is scored before training, too."""
    drop = {'model__backbone__drop_path_rate': 0.5}
    runners = [start(make(images, tmp_path / str(interval), 3, interval, **drop)) for interval in (1, 100)]
    assert_same(*(runner.model.state_dict() for runner in runners))
    start(make(images, tmp_path / 'loaded', 1, load_from=str(tmp_path / '1/iter_3.pth')))
    assert {**table(tmp_path / 'loaded')[0], 'iter': 3} == table(tmp_path / '1')[-1]


def test_options_that_do_not_exist_are_refused(images, tmp_path):
    with pytest.raises(InputError, match="'patches' is one vector for each token"):
        ProbeHook(10, linear=('pooled', 'patches'))
    with pytest.raises(InputError, match=r"linear must be a list, each a text, not 'pooled'"):
        ProbeHook(10, linear='pooled')
    cfg = make(images, tmp_path / 'run')
    del cfg.probe_data['val']
    with pytest.raises(InputError, match='probe_data has train: it needs the data sets train and val'):
        start(cfg)
    shutil.copytree(images / 'dog', tmp_path / 'images' / 'dog')
    cfg = make(images, tmp_path / 'run')
    cfg.probe_data.val = dict(cfg.probe_data.val, data_root=str(tmp_path / 'images'))
    with pytest.raises(InputError, match=r"different classes \(2 and 1\): 'cat' only in the first"):
        start(cfg)


def test_a_damaged_table_is_begun_anew(tmp_path):
    file = tmp_path / 'probes.json'
    wrong = ['{"iter": 1}', '[1]', '[{"a": 1}]', '[{"iter": "a"}]', '[{"iter": 1, "a": 2}]', '[' * 100_000]
    for content in wrong:
        file.write_text(content)
        assert read_rows(str(file)) == []
