import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.features import cache as feature_cache
from mmmim.registry import MODELS
from tests.paths import load_tool
from tests.toys import capi_config


@pytest.fixture
def folder(tmp_path, monkeypatch, digit_scenes):
    """The current folder, with DigitScenes and a checkpoint of two blocks with registers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/digit_scenes').symlink_to(digit_scenes)
    torch.manual_seed(0)
    config = capi_config()
    state = MODELS.build(config).state_dict()
    torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': config}}, 'a.pth')
    return tmp_path


def run(monkeypatch, capsys, *args, code=0):
    # Images are sorted by class.
    steps = {'fit': range(0, 10_000, 160), 'test': range(0, 2000, 100)}
    options = [f'{name}_dataloader.dataset.indices={list(step)}' for name, step in steps.items()]
    options = [f'+{option}' for option in options]
    monkeypatch.setattr(sys, 'argv', ['layer_sweep.py', *map(str, args), '--cfg-options', *options])
    if code:
        with pytest.raises(SystemExit) as exit_info:
            load_tool('analysis_tools/layer_sweep').main()
        assert exit_info.value.code == code
    else:
        load_tool('analysis_tools/layer_sweep').main()
    output = capsys.readouterr()
    return output.err if code else output.out


@pytest.mark.parametrize(('config', 'score'), [('seg_knn', 'capi/mIoU'), ('cls_knn', 'accuracy/top1')])
def test_a_row_and_a_point_for_every_layer(config, score, folder, monkeypatch, capsys):
    passes = []
    extract = feature_cache.FeatureCache._extract

    def counted(self, model, data, grid, entries, layers):
        passes.append((data.name, list(layers)))
        return extract(self, model, data, grid, entries, layers)

    monkeypatch.setattr(feature_cache.FeatureCache, '_extract', counted)
    name = f'configs/eval/{config}_digits.py'
    out = run(monkeypatch, capsys, name, '--pretrained', 'a.pth', '--work-dir', 'out')
    assert passes == [('fit_dataloader', [0, 1]), ('test_dataloader', [0, 1])]
    found = json.loads((folder / 'out/layer_sweep.json').read_text())
    assert found['about']['pretrained'] == 'a.pth'
    assert [record['layer'] for record in found['layers']] == [0, 1]
    for record in found['layers']:
        assert f'{record["scores"][score]:.2f}' in out
        assert f'k {record["setting"]["k"]}' in out
    assert (folder / 'out/layer_sweep.md').read_text().count('\n| ') == 3
    assert np.asarray(Image.open('out/layer_sweep.png'))[..., :3].std() > 10
    # One layer alone comes from the cache.
    run(monkeypatch, capsys, name, '--pretrained', 'a.pth', '--layers', '-1', '--work-dir', 'last')
    assert len(passes) == 2
    (record,) = json.loads((folder / 'last/layer_sweep.json').read_text())['layers']
    assert {**record, 'seconds': 0} == {**found['layers'][1], 'seconds': 0}


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['configs/eval/seg_knn_digits.py'], '--pretrained CHECKPOINT'),
        (['configs/mae/digits.py', '--pretrained', 'a.pth'], 'fits no probe'),
        (['configs/eval/seg_knn_digits.py', '--pretrained', 'a.pth', '--layers', '0', '7'], 'there is no block 7'),
    ],
)
def test_refusals(args, message, folder, monkeypatch, capsys):
    assert message in run(monkeypatch, capsys, *args, code=2)
    assert not os.path.exists('work_dirs')
