"""The example of docs/en/segmentation.md runs outside of the repository, by mmengine's own runner."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.segmentation import write_pair

PAGE = (ROOT / 'docs/en/segmentation.md').read_text()


#: As configs/mae/small.py, without its decoder.
ENCODER = {'type': 'mmmim.ViT', 'img_size': 32, 'patch_size': 4, 'embed_dim': 96, 'depth': 1, 'num_heads': 3}


@pytest.fixture
def folder(tmp_path):
    config, script = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    (tmp_path / 'my_config.py').write_text(config)
    (tmp_path / 'train.py').write_text(script)
    for i in range(6):
        write_pair(tmp_path / f'images/{i}.png', tmp_path / f'labels/{i}.png', [0, 1], size=(32, 32))
        bright = np.asarray(Image.open(tmp_path / f'images/{i}.png')).mean(-1) > 110
        Image.fromarray(bright.astype(np.uint8)).save(tmp_path / f'labels/{i}.png')
    return tmp_path


def test_a_plain_config_trains_and_learns(folder):
    torch.manual_seed(0)
    before = {f'backbone.{key}': value for key, value in MODELS.build(ENCODER).state_dict().items()}
    config = {'version': 1, 'model': {'backbone': ENCODER}}
    torch.save({'state_dict': before, 'meta': {}, 'mmmim': config}, folder / 'encoder.pth')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        [sys.executable, 'train.py'], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    score = float(re.findall(r'mIoU: ([\d.]+)', result.stdout + result.stderr)[-1])
    assert score > 60
    trained = torch.load(folder / 'work_dirs/my_config/iter_40.pth', weights_only=False)['state_dict']
    assert all(torch.equal(trained[f'backbone.{key}'], value) for key, value in before.items())
