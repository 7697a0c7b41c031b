"""What the comparison of segmentations writes, and where."""

import importlib.util
import json
import re
import signal

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

from mmmim.utils import InputError, signals
from tests.paths import ROOT


@pytest.fixture
def run():
    spec = importlib.util.spec_from_file_location('run', ROOT / 'projects/segmentation_comparison/run.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_names_what_exists(run):
    for config, _ in run.MODELS.values():
        assert (ROOT / config).is_file()
    for protocol, _, last in run.PROTOCOLS.values():
        cfg = Config.fromfile(ROOT / f'configs/eval/{protocol}.py')
        assert (cfg.get('train_cfg') or {}).get('max_iters') == last


def test_what_is_written(run, tmp_path):
    columns = ['linear', 'k-NN, capi']
    values = {'MAE': {'linear': [10.0, 12.0], 'k-NN, capi': [12.25]}, 'CAPI': {'linear': [9.5]}, 'PiLaMIM': {}}
    run.write(tmp_path, columns, values, seeds=[0, 1], iterations=30)
    record = json.loads((tmp_path / 'results.json').read_text())
    assert set(record) == {'about', 'results'}
    assert record['about'].pop('torch')
    assert record['about'] == {'split': 'test', 'seeds': [0, 1], 'iterations': 30}
    assert record['results'] == {'single': values}
    table = [
        [cell.strip() for cell in line.split('|')[1:-1]] for line in (tmp_path / 'table.md').read_text().splitlines()
    ]
    assert table[0] == ['mIoU', *columns]
    assert table[2:] == [['MAE', '11.00 ± 1.41', '12.25'], ['CAPI', '9.50', ''], ['PiLaMIM', '', '']]
    assert np.asarray(Image.open(tmp_path / 'figure.png'))[..., :3].std() > 10


def test_scores_of_another_pre_training_are_others(run, tmp_path, monkeypatch):
    """Commands that would run write no more than what they were asked for."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def tool(name, *arguments):
        asked.append((name, *map(str, arguments)))
        if '--out' in arguments:
            arguments[arguments.index('--out') + 1].write_text(json.dumps({'mIoU': len(asked)}))

    monkeypatch.setattr(run, 'tool', tool)
    scores = []
    for iterations in (20, 30, 20):
        checkpoint = run.pretrain(tmp_path, 'SemanticMIM (MaskFeat)', 1, iterations)
        scores.append(run.evaluate(tmp_path, 'SemanticMIM (MaskFeat)', 1, checkpoint, 'seg_linear_digits', 500)['mIoU'])
    assert scores[0] == scores[2] != scores[1]
    run.evaluate(tmp_path, 'random init', 1, run.pretrain(tmp_path, 'random init', 1, 20), 'seg_knn_digits', None)
    written = [path.relative_to(tmp_path).parent.as_posix() for path in tmp_path.rglob('test.json')]
    linear, knn = 'seg_linear_digits/SemanticMIM_MaskFeat_/*/seed_1', 'seg_knn_digits/random_init/*/seed_1'
    assert sorted(re.sub(r'/\w{16}/', '/*/', path) for path in written) == [knn, linear, linear]
    assert 'train_cfg.max_iters=30' in [option for command in asked for option in command]


@pytest.fixture
def handlers():
    before = {signum: signal.getsignal(signum) for signum in signals.STOPPING}
    yield
    for signum, handler in before.items():  # a process that stops ignores what comes late: this one goes on
        signal.signal(signum, handler)


def test_what_is_stopped_saves_and_what_fails_is_named(run, tmp_path, monkeypatch, handlers):
    """A signal is handed on to the tool that runs, which has the time that it needs."""
    monkeypatch.setattr(run, 'ROOT', tmp_path)
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'bad.py').write_text('raise SystemExit(3)')
    with pytest.raises(InputError, match=r'bad\.py ended with status 3'):
        run.tool('bad.py')
    (tmp_path / 'tools' / 'slow.py').write_text(
        'import os, signal, sys, time\n'
        'def save(*_):\n'
        '    time.sleep(0.5)\n'
        '    open("saved", "w").close()\n'
        '    sys.exit(143)\n'
        'signal.signal(signal.SIGTERM, save)\n'
        'os.kill(os.getppid(), signal.SIGUSR1)\n'
        'time.sleep(30)\n'
    )
    with pytest.raises(signals.Stopped) as end, signals.handled():
        run.tool('slow.py')
    assert end.value.code == 138
    assert (tmp_path / 'saved').exists()
