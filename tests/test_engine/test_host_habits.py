"""What users of mmengine and mmpretrain type first works, or is refused in one sentence that names what to set."""

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from PIL import Image
from toy_training import toy_config

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.datasets import ImageFolder
from mmmim.engine import OptimWrapper, Runner
from mmmim.engine.batch_size import check_last_batch
from mmmim.engine.config_check import check_config
from mmmim.engine.hooks import TargetEMAHook
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.registry import DATASETS, MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.toys import capi_config


def digits(*options, method='mae'):
    cfg = load_config(str(ROOT / 'configs' / method / 'digits.py'))
    merge_cfg_options(cfg, options)
    return cfg


# Loops that count epochs ----------------------------------------------------------------------------------------------


def epochs(tmp_path, sampler, **loop):
    cfg = toy_config(tmp_path)
    cfg.train_cfg = loop
    cfg.train_dataloader.sampler = {'type': sampler, 'shuffle': True}
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint = None
    return cfg


LOOPS = [
    {'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 3},
    {'type': 'EpochBasedTrainLoop', 'max_epochs': 3},
    {'by_epoch': True, 'max_epochs': 3},
    {'max_epochs': 3},
]


@pytest.mark.parametrize(
    ('loop', 'sampler'), [*((loop, 'mmmim.PositionSampler') for loop in LOOPS), (LOOPS[0], 'mmengine.InfiniteSampler')]
)
def test_epochs_that_never_end_are_refused_with_their_number_of_iterations(tmp_path, loop, sampler):
    """64 images in batches of 8: three epochs are 24 iterations."""
    runner = Runner.from_cfg(epochs(tmp_path, sampler, **loop))
    with pytest.raises(InputError, match=r'never ends; .* train_cfg.max_iters=24, which is 3 epoch\(s\) of 64 images'):
        runner.train()


def test_epochs_of_a_finite_sampler_end(tmp_path):
    runner = Runner.from_cfg(epochs(tmp_path, 'mmengine.DefaultSampler', by_epoch=True, max_epochs=2))
    runner.train()
    assert (runner.epoch, runner.iter) == (2, 16)


def test_epochs_of_a_stream_are_refused():
    cfg = load_config(str(ROOT / 'configs/capi/vitl14_in1k.py'))
    cfg.train_dataloader.dataset = {'type': 'mmmim.WebDatasetStream', 'shards': 'a.tar', 'pipeline': []}
    cfg.train_dataloader.sampler = None
    cfg.train_cfg = {'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 3, 'max_iters': 5}
    with pytest.raises(InputError, match=r'an epoch of a stream of images never ends; .* train_cfg.max_iters'):
        check_config(cfg)


def test_a_batch_far_larger_than_the_data_set(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.train_dataloader.batch_size = 64 * 100 + 1
    with pytest.raises(InputError, match=r'A batch of 6401 images .* each of the 64 images'):
        Runner.from_cfg(cfg).train()


# The optimiser --------------------------------------------------------------------------------------------------------


def adamw():
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=1.0, fused=True)


def test_options_of_mmengines_wrapper():
    OptimWrapper(adamw(), accumulative_counts=1, clip_grad=None, loss_scale='dynamic')
    with pytest.raises(InputError, match=r'set global_batch_size to the whole batch and model.micro_batch_size'):
        OptimWrapper(adamw(), accumulative_counts=4)
    with pytest.raises(InputError, match=r'set clip_norm=0.5 instead of optim_wrapper.clip_grad'):
        OptimWrapper(adamw(), clip_grad={'max_norm': 0.5, 'norm_type': 2})
    with pytest.raises(InputError, match=r'growth_intervall \(did you mean growth_interval\?\)'):
        OptimWrapper(adamw(), growth_intervall=3)
    for wrong in (-1, 0, float('nan'), '1', True):
        with pytest.raises(InputError, match=r'OptimWrapper.clip_norm must be a finite number above 0 or None'):
            OptimWrapper(adamw(), clip_norm=wrong)


def test_a_dynamic_loss_scale_is_the_default_one():
    scales = [OptimWrapper(adamw(), 'float16', **options).scaler for options in ({}, {'loss_scale': 'dynamic'})]
    assert [scaler.get_scale() for scaler in scales] == [2.0**16] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason='mmengine refuses it on a CPU only')
def test_amp_of_mmengine_on_a_cpu(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper.type = 'mmengine.AmpOptimWrapper'
    with pytest.raises(InputError, match=r"On a CPU, mixed precision is optim_wrapper.type='mmmim.OptimWrapper'"):
        Runner.from_cfg(cfg).train()


def test_a_number_is_a_momentum():
    cfg = digits('default_hooks.target_ema.momentum=0.75', method='capi')
    check_config(cfg)
    hook = TargetEMAHook(cfg.default_hooks.target_ema.momentum)
    assert [hook.schedule(step, 10) for step in (0, 5, 9)] == [0.75] * 3
    for wrong in (-0.1, 1.1, float('nan'), 'fast', True):
        with pytest.raises(InputError, match=r'TargetEMAHook.momentum must be'):
            TargetEMAHook(wrong)


# Learning rates that decay from layer to layer ------------------------------------------------------------------------

VIT = {'type': 'mmpretrain.VisionTransformer', 'arch': {'embed_dims': 16, 'num_layers': 3, 'num_heads': 2}}
VIT['arch']['feedforward_channels'] = 32
SWIN = {
    'type': 'mmpretrain.SwinTransformer',
    'arch': {'embed_dims': 8, 'depths': [1, 1, 2, 1], 'num_heads': [1, 1, 2, 2]},
    'img_size': 64,
    'window_size': 2,
}
HEADS = {
    'one label': {'type': 'mmpretrain.VisionTransformerClsHead', 'num_classes': 4, 'in_channels': 16},
    'many labels': {'type': 'mmpretrain.MultiLabelLinearClsHead', 'num_classes': 4, 'in_channels': 16},
    'pooled': {'type': 'mmpretrain.LinearClsHead', 'num_classes': 4, 'in_channels': 64},
}


def classifier(backbone, head):
    parts = {'backbone': backbone, 'head': head, 'data_preprocessor': {'type': 'mmpretrain.ClsDataPreprocessor'}}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ROOT_MODELS.build({'type': 'mmpretrain.ImageClassifier', **parts})


@pytest.mark.parametrize(('backbone', 'head'), [(VIT, 'one label'), (VIT, 'many labels'), (SWIN, 'pooled')])
def test_layer_decay_of_mmpretrains_classifiers_is_that_of_its_own_constructor(backbone, head):
    backbone = backbone if backbone is SWIN else {**backbone, 'img_size': 32, 'patch_size': 8}
    model = classifier(backbone, HEADS[head])
    theirs = LearningRateDecayOptimWrapperConstructor(
        {'type': 'mmengine.OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 2.0, 'weight_decay': 0.1}},
        {'layer_decay_rate': 0.7},
    )(model)
    expected = {id(p): group['lr'] for group in theirs.optimizer.param_groups for p in group['params']}
    groups = parameter_groups(model, 2.0, 0.1, {}, layer_decay=0.7)
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    assert rates.keys() == expected.keys()
    assert len(set(expected.values())) > 4
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(expected[id(parameter)], rel=1e-12), name


def test_layer_decay_of_a_classifier_without_layers_names_the_backbone():
    model = classifier({'type': 'mmpretrain.LeNet5', 'num_classes': 4}, {'type': 'mmpretrain.ClsHead'})
    with pytest.raises(InputError, match=r'LeNet5 has no get_layer_depth. Set layer_decay to None'):
        parameter_groups(model, 2.0, 0.1, {}, layer_decay=0.7)


# Another data set -----------------------------------------------------------------------------------------------------


def test_a_folder_of_images_in_the_place_of_digit_scenes(tmp_path):
    """The way that the refusal names works."""
    key = 'train_dataloader.dataset.dataset'
    with pytest.raises(InputError) as caught:
        check_config(digits(f'{key}.type=mmmim.ImageFolder', f'{key}.data_root={tmp_path}'))
    removed = [word.rstrip(',') for word in str(caught.value).split() if word.startswith('~')]
    assert removed == [f'~{key}.subset', f'~{key}.split']
    cfg = digits(f'{key}.type=mmmim.ImageFolder', f'{key}.data_root={tmp_path}', *removed)
    check_config(cfg)
    Image.new('RGB', (40, 40)).save(tmp_path / 'a.png')
    dataset = DATASETS.build(cfg.train_dataloader.dataset).dataset
    assert isinstance(dataset, ImageFolder)
    assert len(dataset) == 1


def test_what_is_removed_must_be_there():
    for wrong in ('~train_cfg.max_iter', '~train_cfg.max_iters.x', '~nothing', '~custom_hooks.99.type'):
        with pytest.raises(InputError, match=r'has no .* to remove'):
            digits(wrong)
    assert 'val_interval' not in digits('~train_cfg.val_interval').train_cfg


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'mask_collate = dict(masking=dict(mask_ratio=0.5))',
            r'sets mask_collate, .*: set train_dataloader.collate_fn',
        ),
        ('mask_collate = dict(patch_size=8)\ntrain_dataloader = dict(num_workers=0)', 'sets mask_collate'),
        ('mask_collate = dict(patch_size=8)\ntrain_dataloader = dict(collate_fn=mask_collate)', None),
        ('own = dict(a=1)', None),
    ],
)
def test_a_config_that_changes_a_variable_of_its_base(tmp_path, text, message):
    """The variable was copied when the base was read: what is set afterwards is read by nobody."""
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {str(ROOT / "configs/mae/digits.py")!r}\n{text}\n')
    if message is None:
        load_config(str(path))
    else:
        with pytest.raises(InputError, match=message):
            load_config(str(path))


def test_a_variable_that_nothing_copied_can_be_changed(tmp_path):
    (tmp_path / 'a.py').write_text('own = dict(a=1)\nnumber = 3\nmodel = dict(depth=3)\n')
    cfg = Config.fromfile(tmp_path / 'a.py')
    merge_cfg_options(cfg, ['own.a=2', 'number=4'])
    assert (cfg.own.a, cfg.number) == (2, 4)


def test_a_validation_that_would_leave_one_image_to_be_balanced():
    """Foreseen before the training, not met at its first validation."""
    capi, images = MODELS.build(capi_config()), range(15)
    for batch, drop_last in ((7, False), (1, False), (14, False)):
        with pytest.raises(InputError, match=rf'val_dataloader.batch_size={batch} leaves a single image of 15'):
            check_last_batch(capi, torch.utils.data.DataLoader(images, batch, drop_last=drop_last), 1)
    check_last_batch(capi, torch.utils.data.DataLoader(images, 7, drop_last=True), 1)
    check_last_batch(capi, torch.utils.data.DataLoader(images, 5), 1)
    check_last_batch(torch.nn.Linear(1, 1), torch.utils.data.DataLoader(images, 7), 1)
