"""The example of projects/README.md, as it stands there."""

import re

import torch
import torch.nn.functional as F

from mmmim.config.read import load_config
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.toys import random_mask


def test_the_target_of_the_page(tmp_path, monkeypatch):
    section = (ROOT / 'projects/README.md').read_text().split('## Indices of patches')[1]
    module, config = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    folder = tmp_path / 'my_method'
    (folder / 'configs').mkdir(parents=True)
    (folder / 'target.py').write_text(module)
    (folder / 'configs/small.py').write_text(config.replace('projects.my_method', 'my_method'))
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = load_config(str(folder / 'configs/small.py'))
    assert cfg.default_hooks.target_ema.momentum == 0.99
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    images, mask = torch.randn(2, 3, 32, 32), random_mask(2, visible=16, predict=6, blocks=2, per_image=2, grid=(8, 8))
    targets = model.targets(images, mask)
    with torch.no_grad():
        hidden = model.teacher.backbone(images, layers=(2, 3)).hidden
    average = (F.layer_norm(hidden[0], (96,)) + F.layer_norm(hidden[1], (96,))) / 2
    for g, image in enumerate((0, 0, 1, 1)):
        torch.testing.assert_close(targets['latent'].patches[g], average[image, mask.flat_predict()[g]])
    loss = model.loss(images, mask, targets)['loss_latent']
    loss.backward()
    assert loss.isfinite()
    assert model.backbone.patch_embed.weight.grad.abs().sum() > 0
