import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmmim.engine.hooks import CurvesHook, ReportHook

ROWS = [
    {'iter': 0, 'student_quick_knn_pooled': 0.25},
    {'iter': 10, 'student_quick_knn_pooled': 0.5, 'teacher_quick_knn_pooled': 0.75},
]


@pytest.fixture
def runner(tmp_path):
    folder = tmp_path / 'small'
    folder.mkdir()
    logger = logging.getLogger(str(folder))
    return SimpleNamespace(work_dir=str(folder), iter=10, max_iters=10, log_dir='small/log', logger=logger)


def test_a_page_has_the_table_and_the_pictures_that_there_are(runner, caplog):
    Path(runner.work_dir, 'probes.json').write_text(json.dumps(ROWS))
    for name in ('curves.png', 'features.png', 'other.png'):
        Path(runner.work_dir, name).touch()
    with caplog.at_level(logging.INFO):
        ReportHook().after_train(runner)
    page = Path(runner.work_dir, 'report.md').read_text()
    assert page.startswith('# small\n\n10 of 10 iterations. Log: small/log\n')
    assert page.index('| start ') < page.index('features.png') < page.index('curves.png')
    assert '| 10        | teacher |            0.750 |' in page
    assert 'other.png' not in page
    assert 'health.png' not in page
    assert f'one page: {runner.work_dir}/report.md' in caplog.text


def test_nothing_ends_a_training(runner, caplog, monkeypatch):
    ReportHook().after_train(runner)  # no probes, no pictures
    assert Path(runner.work_dir, 'report.md').read_text().count('\n') == 3
    os.remove(os.path.join(runner.work_dir, 'report.md'))
    os.mkdir(os.path.join(runner.work_dir, 'report.md'))
    ReportHook().after_train(runner)
    assert 'report.md' in caplog.text


def test_a_training_says_whether_it_stayed_inside(runner, caplog, tmp_path, monkeypatch):
    """The band is 1 to 3 at two steps."""
    run = os.path.join(runner.work_dir, '20260101', 'vis_data')
    os.makedirs(run)
    runner.cfg = SimpleNamespace(filename=str(tmp_path / 'small.py'))
    monkeypatch.setattr('mmmim.engine.hooks.curves_hook.curves_hash', lambda cfg: 'settings')
    entry = {'runs': 3, 'hash': 'settings', 'curves': {'loss': [[5, 10], [1, 1], [3, 3]]}}
    said = []
    for losses, settings in (((2, 2), 'settings'), ((2, 4), 'settings'), ((2, 4), 'others')):
        with open(os.path.join(run, 'scalars.json'), 'w') as file:
            file.writelines(json.dumps({'iter': 5 * i + 5, 'loss': loss}) + '\n' for i, loss in enumerate(losses))
        (tmp_path / 'expected.json').write_text(json.dumps({'small': {**entry, 'hash': settings}}))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            CurvesHook().after_train(runner)
        said.append(caplog.messages)
    assert said == [
        ['Inside what 3 healthy runs of this config gave.'],
        [
            'Outside what 3 healthy runs of this config gave: loss at 1 of 2 points, first at iteration 10 (4, healthy '
            'runs 1 to 3).'
        ],
        [],
    ]
    (tmp_path / 'expected.json').write_text('{')
    CurvesHook().after_train(runner)
    assert 'expected.json is damaged' in caplog.text
