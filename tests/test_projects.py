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


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    init_default_scope('mmmim')


def batch(size=8):
    """Images whose bright half tells their class; the label map marks it."""
    images = torch.zeros(size, 3, 32, 32)
    samples = []
    for i in range(size):
        half = slice(16 * (i % 2), 16 * (i % 2) + 16)
        images[i, :, :, half] = 2.0
        maps = np.ones((32, 32), dtype=np.uint8)
        maps[:, half] = 2 + i % 2
        sample = DataSample().set_gt_label(i % 2)
        sample.set_field(maps, 'gt_seg_map')
        samples.append(sample)
    return images, samples


def test_supervised_ceiling_learns_both_tasks():
    cfg = Config.fromfile(ROOT / 'projects/fashion_scenes/configs/supervised.py')
    from projects.fashion_scenes.supervised import SupervisedScore

    cfg.model.backbone.depth = 1
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    images, samples = batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        losses = model(images, samples, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    metric = SupervisedScore()
    for part in (slice(0, 5), slice(5, 8)):
        metric.process(None, model.eval()(images[part], samples[part], mode='predict'))
    assert metric.compute_metrics(metric.results) == {'linear_all': 1.0, 'linear_miou': pytest.approx(1.0)}
    (wrong,) = model(images, samples, mode='predict')
    wrong['class'] = (torch.zeros(8, dtype=torch.int64), wrong['class'][1])
    wrong['label'] = (torch.ones_like(wrong['label'][0]), wrong['label'][1])
    # Half of the images are of class 0, and half of the pixels are background.
    assert metric.compute_metrics([wrong]) == {'linear_all': 0.5, 'linear_miou': pytest.approx(0.5 / 3)}


def test_supervised_config_trains(tmp_path, fashion_scenes):
    cfg = Config.fromfile(ROOT / 'projects/fashion_scenes/configs/supervised.py')
    cfg.work_dir, cfg.global_batch_size, cfg.train_cfg.max_iters = str(tmp_path), 8, 1
    cfg.train_dataloader.update(num_workers=0)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.dataset.data_root = str(fashion_scenes)
        loader.dataset.dataset.indices = 16
    runner = Runner.from_cfg(cfg)
    before = runner.model.segment.weight.clone()
    runner.train()
    assert not torch.equal(runner.model.segment.weight, before)
    assert not {'HealthHook', 'ProbeHook'} & {type(hook).__name__ for hook in runner.hooks}
    assert {key for key in runner.test() if not key.startswith('dropped/')} == {'linear_all', 'linear_miou'}


def test_images_and_label_maps_are_cropped_alike():
    cfg = Config.fromfile(ROOT / 'projects/fashion_scenes/configs/supervised.py')
    from mmmim.registry import TRANSFORMS

    crop = TRANSFORMS.build(cfg.train_dataloader.dataset.dataset.pipeline[2])
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None] * 3, 64, axis=0)
    for _ in range(5):
        results = crop.transform({'img': np.stack([ramp] * 3, axis=-1), 'gt_seg_map': ramp})
        assert results['img'].shape == (32, 32, 3)
        assert abs(results['img'][..., 0].astype(int) - results['gt_seg_map'].astype(int)).max() <= 4
