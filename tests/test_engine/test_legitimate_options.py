"""Configs as users of the libraries below write them: none is refused for what mmmim does not know."""

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from toy_training import toy_config

from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.models.layers.drop_path import drop_path_rates
from mmmim.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from mmmim.utils import InputError


@DATASETS.register_module()
class TakesOut(BaseDataset):
    def __init__(self, **kwargs):
        self.extra = kwargs.pop('extra', 1)
        super().__init__(**kwargs)


@DATASETS.register_module()
class HandsOn(BaseDataset):
    def __init__(self, size: int = 3, **kwargs):
        super().__init__(**kwargs)


@MODELS.register_module()
class Swallows(torch.nn.Module):
    def __init__(self, backbone, num_classes='all', channels='all', **kwargs):
        super().__init__()


@HOOKS.register_module()
class OwnWords(Hook):
    def __init__(self, interval=None, by_epoch='x', momentum='fast', schedule='cosine'):
        pass


@TRANSFORMS.register_module()
class OtherTransforms:
    def __init__(self, transforms, crop_ratio_range=None):
        pass


def data(**dataset):
    return {'train_dataloader': {'batch_size': 2, 'dataset': dataset, 'sampler': {'type': 'InfiniteSampler'}}}


def pipeline(transform):
    return data(type='mmseg.CityscapesDataset', data_root='x', pipeline=[transform])


INF = float('inf')
LEGITIMATE = [
    data(type='mmmim.TakesOut', extra=2, data_root='x'),
    data(type='mmmim.HandsOn', size=2, data_root='x'),
    pipeline({'type': 'mmmim.OtherTransforms', 'transforms': [{'type': 'Foo'}], 'crop_ratio_range': None}),
    pipeline({'type': 'mmmim.OtherTransforms', 'transforms': 'weak'}),
    {'model': {'type': 'mmmim.Swallows', 'backbone': 'r50', 'num_classes': 'auto', 'foo': INF, 'head': {'a': 1}}},
    {'model': {'type': 'mmpretrain.TimmClassifier', 'model_name': 'resnet50', 'num_classes': 10}},
    {'custom_hooks': [{'type': 'OwnWords', 'interval': -1, 'momentum': 'slow', 'schedule': 'step'}]},
    {'custom_hooks': [{'type': 'EarlyStoppingHook', 'monitor': 'error', 'patience': INF}]},
    {'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': -1, 'by_epoch': False}}},
    {'val_evaluator': {'type': 'Evaluator', 'metrics': [{'type': 'mmmim.ToyMetric'}]}},
    {'val_evaluator': {'metrics': {'type': 'mmmim.ToyMetric'}}},
    {
        'optim_wrapper': {
            'type': 'OptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 1.0},
            'clip_grad': {'max_norm': INF},
        }
    },
    {'optim_wrapper': {'optimizer': {'type': 'ZeroRedundancyOptimizer', 'optimizer_type': 'AdamW', 'lr': 0.1}}},
    {'optim_wrapper': {'optimizer': {'type': 'timm.optim.Adan', 'lr': 0.1, 'betas': (0.98, 0.92, 0.99)}}},
    {'optim_wrapper': {'optimizer': {'type': 'torch.optim.Adafactor', 'lr': 0.1, 'eps': (None, 1e-3)}}},
    {'far': INF},
]


@pytest.mark.parametrize('changes', LEGITIMATE, ids=str)
def test_what_only_its_author_or_another_library_knows_is_not_refused(tmp_path, changes):
    cfg = toy_config(tmp_path)
    for key, value in changes.items():
        cfg[key] = value
    check_config(cfg)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (data(type='mmmim.HandsOn', siez=2), r'siez \(did you mean size\?\)'),
        (data(type='mmmim.HandsOn', size='big'), 'dataset.size must be a number'),
        ({'val_evaluator': {'metrics': [{'type': 'mmmim.ToyMetrik'}]}}, r'val_evaluator.metrics.0.type.*ToyMetric\?'),
        ({'visualizer': {'vis_backends': None}}, 'visualizer has no type'),
        ({'log_processor': {'type': 'LogProcessor', 'by_epoch': 'no'}}, 'log_processor.by_epoch must be True or False'),
        ({'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1.0}, 'constructor': 'abc'}}, 'abc is not in the'),
        ({'far': float('nan')}, 'far must be a finite number'),
        ({'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1.0, 'betas': (0.9,)}}}, 'optim_wrapper.optimizer'),
    ],
)
def test_what_is_wrong_there_is_still_refused(tmp_path, changes, message):
    cfg = toy_config(tmp_path)
    for key, value in changes.items():
        cfg[key] = value
    with pytest.raises(InputError, match=message):
        check_config(cfg)


@pytest.mark.parametrize('evaluator', [{'metrics': [{'type': 'mmmim.ToyMetric'}]}])
def test_an_evaluator_with_its_metrics_runs(tmp_path, evaluator):
    cfg = toy_config(tmp_path, train_cfg__max_iters=2, train_cfg__val_interval=2)
    cfg.val_evaluator = evaluator
    cfg.default_hooks.checkpoint = {'type': 'CheckpointHook', 'interval': -1, 'by_epoch': False}
    Runner.from_cfg(cfg).train()
    assert (tmp_path / 'iter_2.pth').exists()


def test_what_the_optimiser_of_mmengine_refuses_is_one_sentence(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper.paramwise_cfg = {'norm_decay_mult': 0.0}
    with pytest.raises(InputError, match='optim_wrapper cannot be made: base_wd should not be None'):
        Runner.from_cfg(cfg).train()


def test_a_rate_of_numpy_is_a_rate():
    for rate in (np.float32(0.25), np.float64(0.25), 0.25, (0.25, 0.25)):
        assert drop_path_rates(rate, 3) == [0.25] * 3
