import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from mmmim.engine import Runner
from mmmim.engine.hooks.probe_hook import _read
from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import encoders
from mmmim.features.labelled_images import LabelledImages
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink

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


def make(images, work_dir, name='capi/digits', labels=True, **options):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'), images, work_dir)
    data = dict(type='mmmim.ImageFolder', data_root=str(images), with_label=labels, pipeline=PIPELINE)
    cfg.merge_from_dict(options)
    cfg.pop('probe_data', None)
    cfg.probe_data = dict(train=data, val=data)
    cfg.experiment_name = work_dir.name
    return cfg


def log_of(runner):
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return file.read()


def test_table_with_the_random_initialisation_first(images, tmp_path):
    cfg = make(images, tmp_path, **{'train_cfg.max_iters': 3, 'default_hooks.probe.interval': 2})
    runner = Runner.from_cfg(cfg)
    runner.train()
    rows = json.loads((tmp_path / 'probes.json').read_text())
    assert [row['iter'] for row in rows] == [0, 2, 3]
    scores = {'knn_predicted', 'knn_pooled', 'linear_all', 'linear_pooled'}
    assert set(rows[0]) == {'iter'} | {f'student_{score}' for score in scores}
    assert set(rows[1]) == set(rows[0]) | {f'teacher_{score}' for score in scores}
    assert all(0 <= value <= 1 for row in rows for key, value in row.items() if key != 'iter')
    # The last row is what the probes say of the trained model, when they are asked directly.
    data = LabelledImages.read(DATASETS.build(cfg.probe_data.train))
    for name, extract in encoders(runner.model).items():
        expected = quick_scores(extract, data, data, ('all', 'pooled'))
        assert {key: rows[-1][f'{name}_{key}'] for key in expected} == pytest.approx(expected)
    assert len({row['student_knn_pooled'] for row in rows} | {row['teacher_knn_pooled'] for row in rows[1:]}) > 1
    assert max(rows[-1].values()) > 0.5
    text = log_of(runner)
    assert '| start     | student |' in text
    assert '% of the run so far' in text
    scalars = [json.loads(line) for line in Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()]
    assert [row['step'] for row in scalars if 'probe/student_knn_pooled' in row] == [0, 2, 3]


def test_resumed_run_keeps_the_first_row(images, tmp_path):
    options = {'train_cfg.max_iters': 2, 'default_hooks.probe.interval': 2, 'default_hooks.checkpoint.interval': 2}
    Runner.from_cfg(make(images, tmp_path, **options)).train()
    before = json.loads((tmp_path / 'probes.json').read_text())
    cfg = make(images, tmp_path, **options | {'train_cfg.max_iters': 4})
    cfg.resume, cfg.experiment_name = 'auto', 'again'
    Runner.from_cfg(cfg).train()
    after = json.loads((tmp_path / 'probes.json').read_text())
    assert after[:2] == before
    assert [row['iter'] for row in after] == [0, 2, 4]


def test_without_labels_it_says_so_once(images, tmp_path):
    for labels, name in ((False, 'a'), (None, 'b')):
        cfg = make(images, tmp_path / name, 'mae/digits', bool(labels), **{'train_cfg.max_iters': 2})
        if labels is None:
            cfg.pop('probe_data')
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert log_of(runner).count('Probes: no labelled images') == 1
        assert not (tmp_path / name / 'probes.json').exists()


def test_training_is_the_same_with_and_without(images, tmp_path):
    weights = []
    for interval in (1, 100):
        options = {'train_cfg.max_iters': 3, 'default_hooks.probe.interval': interval}
        cfg = make(images, tmp_path / str(interval), **options)
        cfg.model.backbone.drop_path_rate = 0.5
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights.append(runner.model.state_dict())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def test_options_that_do_not_exist_are_refused(images, tmp_path):
    from mmmim.engine.hooks import ProbeHook

    with pytest.raises(InputError, match="no feature 'patches'"):
        ProbeHook(10, linear=('pooled', 'patches'))
    with pytest.raises(InputError, match=r"linear must be a list, each a text, not 'pooled'"):
        ProbeHook(10, linear='pooled')
    cfg = make(images, tmp_path)
    del cfg.probe_data['val']
    with pytest.raises(InputError, match='probe_data has train: it needs the data sets train and val'):
        Runner.from_cfg(cfg).train()


def test_classes_that_do_not_compare_are_refused(images, tmp_path):
    shutil.copytree(images / 'dog', tmp_path / 'images' / 'dog')
    cfg = make(images, tmp_path / 'run')
    cfg.probe_data.val = dict(cfg.probe_data.val, data_root=str(tmp_path / 'images'))
    with pytest.raises(InputError, match=r"different classes \(2 and 1\): 'cat' only in the first"):
        Runner.from_cfg(cfg).train()


def test_a_loaded_teacher_is_scored_before_training(images, tmp_path):
    first = Runner.from_cfg(make(images, tmp_path / 'first', **{'train_cfg.max_iters': 1}))
    first.train()
    path = tmp_path / 'first' / 'iter_1.pth'
    cfg = make(images, tmp_path / 'second', **{'train_cfg.max_iters': 1, 'default_hooks.probe.interval': 1})
    cfg.load_from = str(path)
    Runner.from_cfg(cfg).train()
    rows = json.loads((tmp_path / 'second' / 'probes.json').read_text())
    last = json.loads((tmp_path / 'first' / 'probes.json').read_text())[-1]
    assert {**rows[0], 'iter': 1} == last


def test_a_lost_table_does_not_invent_a_first_row(images, tmp_path):
    options = {'train_cfg.max_iters': 2, 'default_hooks.probe.interval': 2, 'default_hooks.checkpoint.interval': 2}
    Runner.from_cfg(make(images, tmp_path, **options)).train()
    (tmp_path / 'probes.json').unlink()
    cfg = make(images, tmp_path, **options | {'train_cfg.max_iters': 4})
    cfg.resume, cfg.experiment_name = 'auto', 'lost'
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert [row['iter'] for row in json.loads((tmp_path / 'probes.json').read_text())] == [2, 4]
    assert '| start' not in log_of(runner)


@pytest.mark.parametrize(
    'content', ['{"iter": 1}', '[1]', '[{"a": 1}]', '[{"iter": "a"}]', '[{"iter": 1, "a": 2}]', '[' * 100_000]
)
def test_a_damaged_table_is_begun_anew(tmp_path, content):
    file = tmp_path / 'probes.json'
    file.write_text(content)
    assert _read(str(file)) == []
