"""What users of mmengine and mmpretrain type first works, or is refused in one sentence that names what to set."""

import pytest
import torch
from mmengine import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.engine import OptimWrapper
from mmmim.engine.batch_size import check_last_batch
from mmmim.engine.config_check import check_config
from mmmim.engine.hooks import TargetEMAHook
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.registry import DATASETS, HOOKS, MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.runs import start
from tests.test_engine.toy_training import toy_config
from tests.toys import capi_config


def small(*options, method='mae'):
    cfg = load_config(str(ROOT / 'configs' / method / 'small.py'))
    merge_cfg_options(cfg, options)
    return cfg


def refused(message, function, *args, **options):
    with pytest.raises(InputError, match=message):
        function(*args, **options)


# What only its author or another library knows ------------------------------------------------------------------------


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


def data(**dataset):
    return {'train_dataloader': {'batch_size': 2, 'dataset': dataset, 'sampler': {'type': 'InfiniteSampler'}}}


def optimizer(kind, clip_grad=None, **options):
    return {'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': kind, **options}, 'clip_grad': clip_grad}}


INF, METRIC = float('inf'), {'type': 'mmmim.ToyMetric'}
LEGITIMATE = [
    data(type='mmmim.TakesOut', extra=2, data_root='x'),
    data(type='mmmim.HandsOn', size=2, data_root='x'),
    {'model': {'type': 'mmmim.Swallows', 'backbone': 'r50', 'num_classes': 'auto', 'foo': INF, 'head': {'a': 1}}},
    {'model': {'type': 'mmpretrain.TimmClassifier', 'model_name': 'resnet50', 'num_classes': 10}},
    {'custom_hooks': [{'type': 'OwnWords', 'interval': -1, 'momentum': 'slow', 'schedule': 'step'}]},
    {'custom_hooks': [{'type': 'EarlyStoppingHook', 'monitor': 'error', 'patience': INF}]},
    {'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': -1, 'by_epoch': False}}},
    {'val_evaluator': {'type': 'Evaluator', 'metrics': [METRIC]}},
    {'val_evaluator': {'metrics': METRIC}},
    optimizer('SGD', {'max_norm': INF}, lr=1.0),
    optimizer('ZeroRedundancyOptimizer', optimizer_type='AdamW', lr=0.1),
    optimizer('timm.optim.Adan', lr=0.1, betas=(0.98, 0.92, 0.99)),
    optimizer('torch.optim.Adafactor', lr=0.1, eps=(None, 1e-3)),
    {'far': INF},
]
WRONG = [
    (data(type='mmmim.HandsOn', siez=2), r'siez \(did you mean size\?\)'),
    (data(type='mmmim.HandsOn', size='big'), 'dataset.size must be a number'),
    ({'val_evaluator': {'metrics': [{'type': 'mmmim.ToyMetrik'}]}}, r'val_evaluator.metrics.0.type.*ToyMetric\?'),
    ({'visualizer': {'vis_backends': None}}, 'visualizer has no type'),
    ({'log_processor': {'type': 'LogProcessor', 'by_epoch': 'no'}}, 'log_processor.by_epoch must be True or False'),
    ({'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1.0}, 'constructor': 'abc'}}, 'abc is not in the'),
    ({'far': float('nan')}, 'far must be a finite number'),
]


@pytest.mark.parametrize(('changes', 'message'), [*((each, None) for each in LEGITIMATE), *WRONG], ids=str)
def test_only_what_is_wrong_is_refused(tmp_path, changes, message):
    cfg = toy_config(tmp_path)
    for key, value in changes.items():
        cfg[key] = value
    if message is None:
        check_config(cfg)
    else:
        refused(message, check_config, cfg)


# Loops that count epochs ----------------------------------------------------------------------------------------------


def epochs(tmp_path, sampler, loop):
    cfg = toy_config(tmp_path)
    cfg.train_cfg = loop
    cfg.train_dataloader.sampler = {'type': sampler, 'shuffle': True}
    cfg.param_scheduler = cfg.default_hooks.checkpoint = None
    return cfg


EPOCHS = {'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 3}


@pytest.mark.parametrize('sampler', ['mmmim.PositionSampler', 'mmengine.InfiniteSampler'])
@pytest.mark.parametrize('loop', [EPOCHS, {'by_epoch': True, 'max_epochs': 3}, {'max_epochs': 3}])
def test_epochs_that_never_end_are_refused_with_their_number_of_iterations(tmp_path, loop, sampler):
    message = r'never ends; .* train_cfg.max_iters=24, which is 3 epoch\(s\) of 64 images'  # in batches of 8
    refused(message, start, epochs(tmp_path, sampler, loop))


def test_epochs_of_a_stream_are_refused():
    cfg = load_config(str(ROOT / 'configs/capi/vitl14_in1k.py'))
    cfg.train_dataloader.dataset = {'type': 'mmmim.WebDatasetStream', 'shards': 'a.tar', 'pipeline': []}
    cfg.train_dataloader.sampler = None
    cfg.train_cfg = {**EPOCHS, 'max_iters': 5}
    refused(r'an epoch of a stream of images never ends; .* train_cfg.max_iters', check_config, cfg)


def test_a_batch_far_larger_than_the_data_set(tmp_path):
    cfg = toy_config(tmp_path, train_dataloader__batch_size=64 * 100 + 1)
    refused(r'A batch of 6401 images .* each of the 64 images', start, cfg)


# The optimiser --------------------------------------------------------------------------------------------------------


def adamw():
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=1.0, fused=True)


def test_options_of_mmengines_wrapper(tmp_path):
    OptimWrapper(adamw(), accumulative_counts=1, clip_grad=None, loss_scale='dynamic')
    scales = [OptimWrapper(adamw(), 'float16', **options).scaler for options in ({}, {'loss_scale': 'dynamic'})]
    assert [scaler.get_scale() for scaler in scales] == [2.0**16] * 2
    refused('set clip_norm=0.5 instead of', OptimWrapper, adamw(), clip_grad={'max_norm': 0.5, 'norm_type': 2})
    refused(r'growth_intervall \(did you mean growth_interval\?\)', OptimWrapper, adamw(), growth_intervall=3)
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper.paramwise_cfg = {'norm_decay_mult': 0.0}
    refused('optim_wrapper cannot be made: base_wd should not be None', start, cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason='mmengine refuses it on a CPU only')
def test_amp_of_mmengine_on_a_cpu(tmp_path):
    cfg = toy_config(tmp_path, optim_wrapper__type='mmengine.AmpOptimWrapper')
    refused(r"On a CPU, mixed precision is optim_wrapper.type='mmmim.OptimWrapper'", start, cfg)


def test_a_number_is_a_momentum():
    hook = TargetEMAHook(0.75)
    assert [hook.schedule(step, 10) for step in (0, 5, 9)] == [0.75] * 3
    refused(r'TargetEMAHook.momentum must be', TargetEMAHook, float('nan'))


# Learning rates that decay from layer to layer ------------------------------------------------------------------------

SWIN = {
    'type': 'mmpretrain.SwinTransformer',
    'arch': {'embed_dims': 8, 'depths': [1, 1, 2, 1], 'num_heads': [1, 1, 2, 2]},
    'img_size': 64,
    'window_size': 2,
}


def classifier(backbone, kind, **options):
    head = {'type': f'mmpretrain.{kind}', **options}
    parts = {'backbone': backbone, 'head': head, 'data_preprocessor': {'type': 'mmpretrain.ClsDataPreprocessor'}}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ROOT_MODELS.build({'type': 'mmpretrain.ImageClassifier', **parts})


def test_layer_decay_of_mmpretrains_classifiers_is_that_of_its_own_constructor():
    model = classifier(SWIN, 'LinearClsHead', num_classes=4, in_channels=64)
    theirs = LearningRateDecayOptimWrapperConstructor(
        {'type': 'mmengine.OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 2.0, 'weight_decay': 0.1}},
        {'layer_decay_rate': 0.7},
    )(model)
    expected, rates = (
        {id(p): group['lr'] for group in groups for p in group['params']}
        for groups in (theirs.optimizer.param_groups, parameter_groups(model, 2.0, 0.1, {}, layer_decay=0.7))
    )
    assert rates == pytest.approx(expected, rel=1e-12)
    assert len(set(expected.values())) > 4


def test_layer_decay_of_a_classifier_without_layers_names_the_backbone():
    model = classifier({'type': 'mmpretrain.LeNet5', 'num_classes': 4}, 'ClsHead')
    message = r'LeNet5 has no get_layer_depth. Set layer_decay to None'
    refused(message, parameter_groups, model, 2.0, 0.1, {}, layer_decay=0.7)


# Options of a command line --------------------------------------------------------------------------------------------


def test_what_is_removed_must_be_there():
    for wrong in ('~train_cfg.max_iter', '~train_cfg.max_iters.x', '~nothing', '~custom_hooks.99.type'):
        refused(r'has no .* to remove', small, wrong)
    assert 'val_interval' not in small('~train_cfg.val_interval').train_cfg


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('mask_collate = dict(masking=dict(mask_ratio=0.5))', r'sets mask_.*: set train_dataloader.collate_fn'),
        ('mask_collate = dict(patch_size=8)\ntrain_dataloader = dict(collate_fn=mask_collate)', None),
        ('own = dict(a=1)', None),
    ],
)  # fmt: skip
def test_a_config_that_changes_a_variable_of_its_base(tmp_path, text, message):
    """The variable was copied when the base was read: what is set afterwards is read by nobody."""
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {str(ROOT / "configs/mae/small.py")!r}\n{text}\n')
    if message is None:
        load_config(str(path))
    else:
        refused(message, load_config, str(path))


def test_a_variable_that_nothing_copied_can_be_changed():
    cfg = Config({'own': {'a': 1}, 'number': 3, 'model': {'depth': 3}})
    merge_cfg_options(cfg, ['own.a=2', 'number=4'])
    assert (cfg.own.a, cfg.number) == (2, 4)


def test_a_validation_that_would_leave_one_image_to_be_balanced():
    capi, images = MODELS.build(capi_config()), range(15)
    for batch in (7, 1, 14):
        loader = torch.utils.data.DataLoader(images, batch)
        refused(rf'val_dataloader.batch_size={batch} leaves a single image of 15', check_last_batch, capi, loader, 1)
    check_last_batch(capi, torch.utils.data.DataLoader(images, 7, drop_last=True), 1)
    check_last_batch(capi, torch.utils.data.DataLoader(images, 5), 1)
    check_last_batch(torch.nn.Linear(1, 1), torch.utils.data.DataLoader(images, 7), 1)
