import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import mmmim
from mmmim.evaluation.measures.rankme import rankme
from mmmim.registry import MODELS
from tests.paths import load_tool
from tests.toys import DIM, capi_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint and images in class folders, one of them broken."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = capi_config()
    config['backbone'] |= {'num_cls_tokens': 1, 'num_registers': 3}
    state = MODELS.build(config).state_dict()
    torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': config}}, 'a.pth')
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / 'images' / str(i % 2) / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'images/0/bad.png').write_text('no image')
    (tmp_path / 'empty').mkdir()
    return tmp_path


def run(monkeypatch, capsys, *args, code=0):
    monkeypatch.setattr(sys, 'argv', ['rankme.py', *map(str, args), '--workers', '0', '--device', 'cpu'])
    if code:
        with pytest.raises(SystemExit) as exit_info:
            load_tool('analysis_tools/rankme').main()
        assert exit_info.value.code == code
    else:
        load_tool('analysis_tools/rankme').main()
    output = capsys.readouterr()
    return output.err if code else output.out


def test_a_row_for_every_pooling(folder, monkeypatch, capsys):
    output = run(monkeypatch, capsys, 'a.pth', 'images', '--out-dir', 'out/new', '--batch-size', 7)
    assert '1 of 21 images left out, for example: cannot read image images/0/bad.png' in output
    written = json.loads((folder / 'out/new/rankme.json').read_text())
    assert written['about']['unreadable'] == 1
    assert list(written['poolings']) == ['cls', 'pooled']
    model = mmmim.get_model('a.pth')
    paths = [*(folder / 'images/0').glob('[0-9]*.png'), *(folder / 'images/1').glob('*.png')]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])
    features = model(model.preprocess(images))
    for name, row in written['poolings'].items():
        assert row == {
            'rankme': pytest.approx(rankme(features.pool(name)).item(), rel=1e-4),
            'images': 20,
            'width': DIM,
        }
        assert f'| {row["rankme"]:.2f} |' in ' '.join(output.split())
    table = (folder / 'out/new/rankme.md').read_text()
    assert table.startswith('a.pth, auto weights, on images at 16 px\n\n| pooling ')
    assert table.count('\n| ') == 3


def test_few_images_and_other_poolings(folder, monkeypatch, capsys):
    args = ('a.pth', 'images/1', '--pool', 'top3', 'pooled', '--weights', 'student', '--max-images', 10)
    output = run(monkeypatch, capsys, *args, '--out-dir', 'out')
    assert f'pooled: 10 images are fewer than the width {DIM}, and RankMe is at most 10.' in output
    rows = json.loads((folder / 'out/rankme.json').read_text())['poolings']
    assert list(rows) == ['top3', 'pooled']
    assert all(1 < row['rankme'] <= 10.001 and row['images'] == 10 for row in rows.values())


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['a.pth', 'empty'], 'error: No images in empty'),
        (['a.pth', 'none'], 'error: There is no image file or folder none'),
        (['a.pth', 'images/0/bad.png'], 'error: None of the 1 images can be read'),
        (['none.pth', 'images'], 'error: The checkpoint none.pth does not exist'),
        (['a.pth', 'images', '--pool', 'mean'], "error: There is no feature 'mean'"),
        (
            ['a.pth', 'images', '--max-images', '0'],
            'argument --max-images: it must be a whole number of at least 1, not 0.',
        ),
        (
            ['a.pth', 'images', '--batch-size', '0'],
            'argument --batch-size: it must be a whole number of at least 1, not 0.',
        ),
    ],
)
def test_errors(folder, monkeypatch, capsys, args, message):
    assert message in run(monkeypatch, capsys, *args, code=2)
    assert not (folder / 'work_dirs').exists()
