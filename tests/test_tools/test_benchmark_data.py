import re
import runpy

import pytest

from tests.paths import ROOT

TOOL = str(ROOT / 'tools/analysis_tools/benchmark_data.py')


def run(monkeypatch, *args):
    monkeypatch.setattr('sys.argv', ['benchmark_data.py', *args])
    runpy.run_path(TOOL, run_name='__main__')


def test_every_pipeline_is_measured(monkeypatch, capsys):
    run(monkeypatch, '--number=6', '--repeats=1', '--workers=0', '--batch-size=3', '--size=32')
    out = capsys.readouterr().out
    rows = dict(re.findall(r'^\| (\S.*?) +\| +(\d+) \|', out, re.MULTILINE))
    assert list(rows) == [
        'mmpretrain, pillow',
        'torchvision v2',
        'mmmim, pillow',
        'mmmim, pillow decoder',
        'mmmim',
    ]
    assert all(int(rate) > 1 for rate in rows.values())
    assert re.search(r'torchvision v2 +\|.* 1\.00 \|', out)
    assert re.search(r'mmmim - \(mmmim, pillow\): at most [12] grey level', out)
    for fact in ('200 files of', '0 workers, batches of 3', 'simplejpeg', 'cores'):
        assert fact in out


def test_wrong_settings(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, '--repeats', '0')
    assert 'argument --repeats: it must be a whole number of at least 1, not 0.' in capsys.readouterr().err
