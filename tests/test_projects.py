"""Projects work from outside the package."""

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from mmmim.engine import Runner
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.shrink import shrink, write_images


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    init_default_scope('mmmim')


def test_supervised_ceiling_trains(tmp_path):
    for name in ('cat', 'dog'):
        write_images(tmp_path / 'images' / name, number=4)
    cfg = shrink(
        Config.fromfile(ROOT / 'projects/digit_scenes/configs/supervised_class.py'), tmp_path / 'images', tmp_path
    )
    cfg.train_dataloader.dataset.dataset.with_label = True
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.train_cfg.max_iters = 2
    runner = Runner.from_cfg(cfg)
    before = runner.model.head.weight.clone()
    runner.train()
    assert not torch.equal(runner.model.head.weight, before)
    assert not {'HealthHook', 'ProbeHook'} & {type(hook).__name__ for hook in runner.hooks}


def test_supervised_on_label_maps_learns_them():
    from projects.digit_scenes.supervised import SupervisedScore

    cfg = Config.fromfile(ROOT / 'projects/digit_scenes/configs/supervised_seg.py')
    cfg.model.backbone.depth = 1
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    images = torch.zeros(8, 3, 32, 32)
    samples = []
    for i in range(8):
        images[i, :, :, 16 * (i % 2) : 16 * (i % 2) + 16] = 2.0
        maps = np.ones((32, 32), dtype=np.uint8)
        maps[:, 16 * (i % 2) : 16 * (i % 2) + 16] = 2 + i % 2
        sample = DataSample()
        sample.set_field(maps, 'gt_seg_map')
        samples.append(sample)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = model(images, samples, mode='loss')['loss_supervised']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    metric = SupervisedScore()
    metric.process(None, model.eval()(images, samples, mode='predict'))
    assert metric.compute_metrics(metric.results) == {'linear_miou': pytest.approx(1.0)}
    wrong = metric.results[0]['predicted'].clone()
    wrong[:] = 1
    # Half of the pixels are background.
    found = metric.compute_metrics([{'predicted': wrong, 'true': metric.results[0]['true']}])
    assert found['linear_miou'] == pytest.approx(0.5 / 3)


def test_images_and_label_maps_are_cropped_alike():
    cfg = Config.fromfile(ROOT / 'projects/digit_scenes/configs/supervised_seg.py')
    from mmmim.registry import TRANSFORMS

    crop = TRANSFORMS.build(cfg.train_dataloader.dataset.dataset.pipeline[2])
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None] * 3, 64, axis=0)
    for _ in range(5):
        results = crop.transform({'img': np.stack([ramp] * 3, axis=-1), 'gt_seg_map': ramp})
        assert results['img'].shape == (32, 32, 3)
        assert abs(results['img'][..., 0].astype(int) - results['gt_seg_map'].astype(int)).max() <= 4
