"""Trainings that read streams: resumed ones, by the tools, and by the configs."""

import multiprocessing

import pytest
import torch
from mmengine import Config

from mmmim.engine import Runner
from tests.paths import ROOT
from tests.runs import At, log_of, start
from tests.shards import write_parquet, write_tars
from tests.shrink import shrink
from tests.test_engine.test_training import Record


@pytest.fixture
def training(tmp_path):
    """Configs of CAPI's tiny training that read tar files."""
    shards = write_tars(tmp_path / 'shards', (6, 6, 6, 6), size=40)

    def make(work_dir, **options):
        cfg = shrink(Config.fromfile(ROOT / 'configs/capi/small.py'), tmp_path, tmp_path / work_dir)
        pipeline = cfg.train_dataloader.dataset.dataset.pipeline
        dataset = dict(type='mmmim.WebDatasetStream', shards=shards, pipeline=pipeline)
        cfg.train_dataloader.update(sampler=None, num_workers=2)
        cfg.train_dataloader.dataset = dataset
        cfg.train_cfg.max_iters = 5
        cfg.default_hooks.checkpoint.interval = 3
        cfg.experiment_name = f'{tmp_path.name}-{work_dir}-{options}'
        cfg.merge_from_dict(options)
        return cfg

    return make


def interrupt(runner):
    raise KeyboardInterrupt


def test_a_resumed_training_is_the_uninterrupted_one(training):
    whole, second = Record(), Record()
    reference = start(training('whole'), whole)
    with pytest.raises(KeyboardInterrupt):
        start(training('cut'), At(before_train_iter=(4, interrupt)))
    resumed = start(training('cut', resume=True), second)
    assert list(second.rows) == [3, 4]
    for iteration, row in second.rows.items():
        assert row == whole.rows[iteration]
    assert len({row[3] for row in whole.rows.values()}) == 5
    for key, value in reference.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    assert 'not exactly' not in log_of(resumed)
    assert not multiprocessing.active_children()

    finished = start(training('cut', resume=True, **{'train_dataloader.num_workers': 1}))
    assert 'The stream goes on in the same epoch, but not exactly' in log_of(finished)


def batch_of(cfg, dataset):
    options = {**cfg.train_dataloader, 'dataset': dataset, 'batch_size': 1, 'num_workers': 0, 'pin_memory': False}
    return next(iter(Runner.build_dataloader(options, seed=0)))


def test_base_configs_and_the_switch_of_the_documentation(tmp_path):
    shards = {'shards': write_tars(tmp_path / 'tars')}
    folder = Config.fromfile(ROOT / 'configs/_base_/datasets/imagenet22k.py').train_dataloader.dataset.dataset
    hub = {'path': write_parquet(tmp_path / 'parquet'), 'column': 'image'}
    for name, place in (('webdataset', shards), ('huggingface', hub)):
        cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/imagenet22k_{name}.py')
        dataset = cfg.train_dataloader.dataset
        assert dataset.pipeline == folder.pipeline
        dataset.update(place)
        assert batch_of(cfg, dataset)['inputs'][0].shape == (3, 224, 224)

    page = (ROOT / 'docs/en/dataset_prepare.md').read_text()
    blocks = [part.split('```')[0] for part in page.split('```python\n')[1:]]
    text = next(block for block in blocks if 'WebDatasetStream' in block)
    for name, replacement in (
        ('./vitl14.py', str(ROOT / 'configs/capi/vitl14.py')),
        ('data/imagenet22k_shards', shards['shards']),
    ):
        assert name in text
        text = text.replace(name, replacement)
    (tmp_path / 'config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'config.py')
    batch = batch_of(cfg, cfg.train_dataloader.dataset)
    assert batch['inputs'].shape == (1, 3, 224, 224)
    assert batch['mask'].grid == (16, 16)
