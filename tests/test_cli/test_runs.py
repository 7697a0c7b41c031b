"""`mmmim runs`: a row for each training in a folder."""

import json

import pytest

from mmmim.cli.runs import main


def write_run(folder, losses, probes=()):
    path = folder / '20260101_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps({'iter': i, 'loss': loss}) + '\n' for i, loss in losses))
    (folder / 'probes.json').write_text(json.dumps(list(probes)))


def test_a_row_for_each_training(tmp_path, capsys):
    probes = [{'iter': 0, 'student_quick_knn_pooled': 0.25}, {'iter': 10, 'student_quick_knn_pooled': 0.5}]
    write_run(tmp_path / 'a', [(5, 2.0), (10, 1.5)], probes)
    write_run(tmp_path / 'deep/b', [(5, 3.0)])
    write_run(tmp_path / 'empty', [])
    main([str(tmp_path)])
    head, _, *rows = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in capsys.readouterr().out.splitlines()
    ]
    assert head == ['run', 'iteration', 'written', 'loss', 'knn_pooled']
    assert rows[0][:2] == [str(tmp_path / 'a'), '10']
    assert rows[0][3:] == ['1.5', '0.250 to 0.500']
    assert rows[1][:2] == [str(tmp_path / 'deep/b'), '5']
    assert rows[1][3:] == ['3', '']
    assert len(rows) == 2


@pytest.mark.parametrize('folder', ['none', '.'])
def test_no_training_is_said(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([folder])
    assert 'none is no folder' in (error := capsys.readouterr().err) or 'there is no training' in error
