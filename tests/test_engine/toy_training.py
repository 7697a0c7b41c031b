"""The smallest training that goes through every part of the runner; also imported by the configs of tool tests."""

import itertools
import time

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmmim.registry import DATASETS, HOOKS, METRICS, MODELS


@DATASETS.register_module(force=True)
class ToyDataset(torch.utils.data.Dataset):
    def __init__(self, size=64):
        self.x = torch.randn(size, 3, generator=torch.Generator().manual_seed(0))
        self.metainfo = {'classes': ('a', 'b'), 'palette': np.zeros((2, 3), dtype=np.uint8)}

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {'inputs': self.x[index], 'target': self.x[index].sum()}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    def __init__(self, width=3, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.body = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, 1)

    def init_weights(self):
        torch.manual_seed(0)
        for layer in (self.body, self.out):
            nn.init.normal_(layer.weight, std=0.2)

    def forward(self, inputs, target, mode='tensor'):
        noisy = inputs + 0.1 * torch.randn_like(inputs) if self.training else inputs
        y = self.out(self.norm(self.body(noisy))).squeeze(-1)
        if mode == 'loss':
            return {'loss_main': (y - target).square().mean(), 'spread': y.std().detach()}
        return [{'error': (a - b).abs().item()} for a, b in zip(y, target, strict=True)]


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(sample['error'] for sample in data_samples)

    def compute_metrics(self, results):
        return {'error': float(np.mean(results))}


@HOOKS.register_module(force=True)
class SlowHook(Hook):
    """Time to send a signal in."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.05)


_COUNT = itertools.count()

#: For tools, which read the config in a process of their own.
IMPORTS = "custom_imports = dict(imports=['toy_training'])\n"
CONFIG = (
    IMPORTS
    + """
default_scope = 'mmmim'
model = dict(type='mmmim.ToyModel', width=3)
dataset = dict(type='mmmim.ToyDataset')
train_dataloader = dict(
    batch_size=8, num_workers=0, dataset=dataset, sampler=dict(type='mmengine.InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'))
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=True, dataset=dict(type='mmmim.ToyDataset', size=16),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate'))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='mmmim.ToyMetric')
val_cfg = test_cfg = dict()
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=20, val_interval=10)
optim_wrapper = dict(type='mmengine.OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, betas=(0.9, 0.95)))
param_scheduler = [dict(type='mmengine.CosineAnnealingLR', T_max=20, by_epoch=False)]
default_hooks = dict(
    runtime_info=dict(type='mmmim.RuntimeInfoHook'),
    logger=dict(type='mmengine.LoggerHook', interval=5, log_metric_by_epoch=False),
    checkpoint=dict(type='mmmim.CheckpointHook', by_epoch=False, interval=10, max_keep_ckpts=2))
custom_hooks = [
    dict(type='mmmim.StepSeedHook'), dict(type='mmmim.TrainingInfoHook'), dict(type='mmmim.CurvesHook')]
visualizer = dict(type='mmengine.Visualizer', vis_backends=[dict(type='mmengine.LocalVisBackend')])
log_processor = dict(by_epoch=False, window_size=5)
randomness = dict(seed=0)
load_from = None
resume = False
"""
)


def toy_config(work_dir, **changes):
    """The config with dotted changes, ``train_cfg__max_iters=5``."""
    cfg = Config.fromstring(CONFIG.removeprefix(IMPORTS), '.py')
    cfg.work_dir = str(work_dir)
    # mmengine shares its global objects between runners of one name, by default the second they start in.
    cfg.experiment_name = f'toy{next(_COUNT)}'
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg
