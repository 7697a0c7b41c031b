"""What of a recipe does not fit a training is said when it starts, and nothing is where all fits."""

import logging

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

import mmmim
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.datasets import ImageFolder, SeededDataset
from mmmim.engine import Runner
from mmmim.engine.misfits import misfits, sizes_of
from tests.paths import ROOT
from tests.shrink import shrink, write_images


def load(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


@pytest.mark.parametrize('name', mmmim.list_models(ablations=True))
def test_recipes_fit_themselves(name):
    cfg = load(name)
    assert cfg.auto_scale_lr.base_batch_size == cfg.global_batch_size
    assert misfits(cfg, cfg.global_batch_size, images=10**6, sizes=[(600, 500)] * 8) == []


@pytest.mark.parametrize(
    ('name', 'options', 'facts', 'said'),
    [
        ('mae/vitb16', [], dict(batch=256), ['optim_wrapper.optimizer.lr is for batches of 4096', '--batch 256']),
        ('capi/vits14', [], dict(batch=8192), ['lr and default_hooks.target_ema.momentum are for batches of 16384']),
        ('mae/vitb16', ['auto_scale_lr.base_batch_size=256'], dict(batch=256), []),
        ('mae/vitb16', ['+auto_scale_lr.enable=True'], dict(batch=256), []),
        ('pilamim/vitb16', ['+auto_scale_lr.enable=True'], dict(batch=256), ['and not the momentum of the teacher']),
        (
            'capi/vits14',
            ['auto_scale_lr.base_batch_size=256'],
            dict(batch=256),
            ['16384 prototypes over the 256 images of a batch', 'head.num_prototypes'],
        ),
        ('capi/ablations/sinkhorn_standard', ['auto_scale_lr.base_batch_size=256'], dict(batch=256), []),
        ('mae/vitb16', [], dict(device='cpu'), ["optim_wrapper.dtype='bfloat16' on a CPU", 'optim_wrapper.dtype=None']),
        ('mae/vitb16', ['optim_wrapper.dtype=None'], dict(device='cpu'), []),
        ('mae/vitb16', [], dict(images=1000), ['A batch has 4096 images and the data set 1000']),
        ('mae/vitb16', [], dict(sizes=[(64, 90)] * 3 + [(300, 300)]), ['3 of 4 images', 'crop of 224', '64 x 90']),
        ('mae/vitb16', [], dict(sizes=[(64, 90)] * 2 + [(300, 300)] * 2), []),
    ],
)
def test_what_does_not_fit(name, options, facts, said):
    cfg = load(name)
    merge_cfg_options(cfg, options)
    found = misfits(cfg, **{'batch': cfg.global_batch_size, **facts})
    assert len(found) == bool(said)
    assert all(word in found[0] for word in said)


def test_sizes_of_a_data_set(tmp_path):
    for i in range(70):
        Image.fromarray(np.zeros((20 + i, 100, 3), np.uint8)).save(tmp_path / f'{i:02}.png')
    (tmp_path / '00.png').write_bytes(b'')
    sizes = sizes_of(SeededDataset(ImageFolder(str(tmp_path), pipeline=[])))
    assert sizes == [(20 + i, 100) for i in range(2, 64, 2)]
    assert sizes_of(range(3)) == []


def test_a_training_says_it_when_it_starts(tmp_path, caplog):
    write_images(tmp_path / 'images', number=3)
    cfg = shrink(load('mae/vitb16'), tmp_path / 'images', tmp_path / 'work')
    cfg.experiment_name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for words in ('are smaller than the crop of 128', 'A batch has 4 images and the data set 3', 'batches of 4096'):
        assert sum(words in message for message in said) == 1
