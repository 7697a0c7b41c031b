import json
import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine import Config, MessageHub
from PIL import Image

from mmmim.engine.hooks import CurvesHook, ReportHook
from mmmim.engine.hooks.health_hook import WARNINGS

ROWS = [
    {'iter': 0, 'student_quick_knn_pooled': 0.25},
    {'iter': 10, 'student_quick_knn_pooled': 0.5, 'teacher_quick_knn_pooled': 0.75},
]


@pytest.fixture
def runner(tmp_path):
    folder = tmp_path / 'small'
    folder.mkdir()
    logger = logging.getLogger(str(folder))
    hub = MessageHub(f'hub_{tmp_path}')
    cfg = Config({'model': {'type': '<A>'}})
    return SimpleNamespace(
        work_dir=str(folder), iter=10, max_iters=10, log_dir='small/log', logger=logger, message_hub=hub, cfg=cfg
    )


def page_of(runner):
    return Path(runner.work_dir, 'report.html').read_text()


def test_a_page_has_tables_pictures_warnings_and_config(runner, caplog):
    Path(runner.work_dir, 'probes.json').write_text(json.dumps(ROWS))
    for name in ('curves.png', 'features.png', 'other.png'):
        Image.new('RGB', (8, 8)).save(Path(runner.work_dir, name))
    runner.message_hub.update_info(WARNINGS, [[5, 'Collapse: <low> rank.']])
    with caplog.at_level(logging.INFO):
        ReportHook().after_train(runner)
    page = page_of(runner)
    assert '10 of 10 iterations (done)' in page
    assert page.index('>start<') < page.index('What the features see') < page.index('Losses and rates')
    cells = re.findall(r'<t[hd][^>]*>([^<]*)</t[hd]>', page)
    assert ['10', 'teacher', '0.750'] in [cells[i : i + 3] for i in range(len(cells))]
    assert page.count('<img') == 2
    assert 'Collapse: &lt;low&gt; rank.' in page
    assert '&lt;A&gt;' in page
    assert not re.findall(r'<script|<link|src="(?!data:)|https?://', page)
    assert f'one page: {runner.work_dir}/report.html' in caplog.text


def test_the_page_is_written_anew_when_something_is_new(runner):
    hook = ReportHook(interval=5)
    runner.iter, runner.max_iters = 4, 100
    page = Path(runner.work_dir, 'report.html')
    hook.after_train_iter(runner, 4)
    assert '5 of 100 iterations (running)' in page_of(runner)
    page.unlink()
    runner.iter = 9
    hook.after_train_iter(runner, 9)
    assert not page.exists()
    Path(runner.work_dir, 'probes.json').write_text(json.dumps(ROWS))
    hook.after_train_iter(runner, 9)
    assert '10 of 100 iterations (running)' in page_of(runner)
    page.unlink()
    runner.message_hub.update_info(WARNINGS, [[5, 'Collapse.']])
    hook.after_train_iter(runner, 9)
    assert 'Collapse.' in page_of(runner)


def test_nothing_ends_a_training(runner, caplog):
    ReportHook().after_train(runner)  # no probes, no pictures
    page = Path(runner.work_dir, 'report.html')
    assert 'nothing has been scored yet' in page_of(runner)
    page.unlink()
    page.mkdir()
    ReportHook().after_train(runner)
    assert 'report.html' in caplog.text


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
