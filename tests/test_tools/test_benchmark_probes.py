import re
import sys

import pytest
import torch

from tests.paths import load_tool


def run(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['benchmark_probes.py', '--device', 'cpu', *args])
    load_tool('analysis_tools/benchmark_probes').main()


def test_what_it_reports(monkeypatch, capsys):
    small = ['--train', '300', '--queries', '50', '--dim', '16', '--classes', '5', '--pixels', '4', '--repeats', '1']
    run(monkeypatch, *small, '--iterations', '2')
    text = capsys.readouterr().out
    for part in ('k-NN, cosine + l2, bfloat16', 'votes of 30 for 4 pixels', 'logistic regression, pass', 'peak memory'):
        assert part in text
    assert f'torch {torch.__version__}' in text
    assert '300 patches to learn from, 50 queries, width 16, 5 classes' in text
    shares = [line.split('|')[-2].strip() for line in text.splitlines() if line.startswith(('| k-NN', '| logistic'))]
    assert len(shares) == 5
    assert all(0 <= int(share.rstrip('%')) <= 100 for share in shares)


@pytest.mark.parametrize(('option', 'value'), [('--train', '29'), ('--queries', '0'), ('--classes', '257')])
def test_numbers_that_make_no_sense(monkeypatch, capsys, option, value):
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, option, value)
    assert exit_info.value.code == 2
    assert re.search(rf'{option}( |: ).*{value}', capsys.readouterr().err)
