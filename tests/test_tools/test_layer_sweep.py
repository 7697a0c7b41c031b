import json
import os

import numpy as np
import pytest
from PIL import Image

from mmmim.features import cache
from tests.toys import capi_config, save_model

SWEEP = 'analysis_tools/layer_sweep'
#: Images are sorted by class.
FEW = [
    '--cfg-options',
    f'+fit_dataloader.dataset.indices={list(range(0, 9000, 150))}',
    f'+test_dataloader.dataset.indices={list(range(0, 2000, 100))}',
]


@pytest.fixture
def folder(tmp_path, monkeypatch, fashion_scenes):
    """The current folder, with FashionScenes and a checkpoint of two blocks with registers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/fashion_scenes').symlink_to(fashion_scenes)
    save_model('a.pth', capi_config())
    return tmp_path


@pytest.mark.parametrize(
    ('config', 'score', 'chosen', 'probe'),
    [
        ('seg_knn', 'capi/mIoU', 'k ', []),
        ('cls_logreg', 'accuracy/top1', 'c ', []),
        ('cls_knn', 'k_3/accuracy/top5', '', ['test_cfg.probe.k=[1,3]']),
    ],
)
def test_a_row_and_a_point_for_every_layer(config, score, chosen, probe, folder, monkeypatch, tool):
    passes = []
    extract = cache.FeatureCache._extract

    def counted(self, model, data, layout, wanted, asked):
        passes.append((data.name, [asked[place][1] for place in wanted if place is not None]))
        return extract(self, model, data, layout, wanted, asked)

    monkeypatch.setattr(cache.FeatureCache, '_extract', counted)
    name = f'configs/eval/{config}_fashion.py'
    few = [*FEW, *probe]
    out = tool(SWEEP, name, '--pretrained', 'a.pth', '--work-dir', 'out', *few)
    assert passes == [('fit_dataloader', [0, 1]), ('test_dataloader', [0, 1])]
    found = json.loads((folder / 'out/layer_sweep.json').read_text())
    assert found['about']['pretrained'] == 'a.pth'
    assert [record['layer'] for record in found['layers']] == [0, 1]
    for record in found['layers']:
        assert f'{record["scores"][score]:.2f}' in out
        assert not chosen or f'{chosen}{record["setting"][chosen.strip()]:.3g}' in out
    assert (folder / 'out/layer_sweep.md').read_text().count('\n| ') == 3
    assert np.asarray(Image.open('out/layer_sweep.png'))[..., :3].std() > 10
    # One layer alone comes from the cache.
    tool(SWEEP, name, '--pretrained', 'a.pth', '--layers', '-1', '--work-dir', 'last', *few)
    assert len(passes) == 2
    (record,) = json.loads((folder / 'last/layer_sweep.json').read_text())['layers']
    assert {**record, 'seconds': 0} == {**found['layers'][1], 'seconds': 0}


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ('configs/eval/seg_knn_fashion.py', '--pretrained CHECKPOINT'),
        ('configs/mae/small.py --pretrained a.pth', 'fits no probe'),
        ('configs/eval/seg_knn_fashion.py --pretrained a.pth --layers 0 7', 'there is no block 7'),
    ],
)
def test_refusals(args, message, folder, tool):
    assert message in tool(SWEEP, *args.split(), code=2)
    assert not os.path.exists('work_dirs')
