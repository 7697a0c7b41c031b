"""Labels of trained and fitted models, with real runs on masks and folders that are wrong."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from mmmim.engine import Runner
from mmmim.engine.runner import _ShortMessages
from mmmim.utils import InputError
from tests.segmentation import tiny_encoder

SIDE = 16
CLASSES = ['bg', 'fg']


def write_masks(folder, masks, prefix=''):
    """Images of noise with label maps."""
    rng = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        mask = np.asarray(mask, np.uint8)
        pixels = rng.integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'images/{prefix}{i}.png')
        Image.fromarray(mask).save(folder / f'labels/{prefix}{i}.png')


def halves(left, right, side=SIDE):
    return np.where(np.arange(side) < side // 2, left, right)[None].repeat(side, 0)


def seg_loader(folder, classes=CLASSES, batch=2, infinite=False, **options):
    pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmseg.LoadAnnotations'), dict(type='mmseg.PackSegInputs')]
    return dict(
        batch_size=batch,
        num_workers=0,
        sampler=dict(type='mmmim.PositionSampler' if infinite else 'mmengine.DefaultSampler', shuffle=infinite),
        collate_fn=dict(type='mmengine.pseudo_collate'),
        dataset=dict(
            type='mmseg.BaseSegDataset',
            data_root=str(folder),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            img_suffix='.png',
            metainfo=dict(classes=classes),
            pipeline=pipeline,
            **options,
        ),
    )


_RUNS = iter(range(10**6))


def base(work_dir, **parts):
    return Config(
        dict(
            default_scope='mmmim',
            work_dir=str(work_dir),
            experiment_name=f'labels_{next(_RUNS)}',
            default_hooks=dict(
                logger=dict(type='mmengine.LoggerHook', interval=1),
                checkpoint=dict(type='mmmim.CheckpointHook', by_epoch=False, interval=100),
            ),
            randomness=dict(seed=0),
            **parts,
        )
    )


def seg_config(folder, work_dir, num_classes=2, iters=2, val=None, **options):
    """Two iterations of a linear segmentor, validated after them."""
    encoder = tiny_encoder(4, SIDE, depth=1)
    model = dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(SIDE, SIDE), seg_pad_val=255),
        backbone=dict(type='mmmim.PretrainedBackbone', checkpoint='random', encoder=encoder, stride=None),
        decode_head=dict(
            type='mmseg.FCNHead',
            in_channels=16,
            channels=16,
            num_convs=0,
            concat_input=False,
            num_classes=num_classes,
            loss_decode=dict(type='mmseg.CrossEntropyLoss'),
        ),
        test_cfg=dict(mode='whole'),
    )
    return base(
        work_dir,
        model=model,
        train_dataloader=seg_loader(folder, infinite=True, **options),
        val_dataloader=seg_loader(val or folder, **options),
        train_cfg=dict(type='mmengine.IterBasedTrainLoop', max_iters=iters, val_interval=iters),
        val_cfg=dict(type='mmengine.ValLoop'),
        val_evaluator=dict(type='mmseg.IoUMetric'),
        optim_wrapper=dict(type='mmengine.OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
    )


def fit_config(folder, work_dir, test=None, **options):
    """1-NN on patches."""
    cfg = base(
        work_dir,
        model=dict(
            type='mmmim.FrozenFeatures',
            data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255]),
            backbone=dict(
                type='mmmim.PretrainedBackbone',
                checkpoint='random',
                encoder=tiny_encoder(4, SIDE, depth=1),
                out_indices=(-1,),
                frozen=True,
            ),
        ),
        fit_dataloader=seg_loader(folder, **options),
        test_dataloader=seg_loader(test or folder, **options),
        test_cfg=dict(
            type='mmmim.FitTestLoop',
            probe=dict(type='mmmim.KNNProbe', k=[1], distance=['l2']),
            cache=dict(folder=str(work_dir / 'cache')),
        ),
        test_evaluator=[dict(type='mmmim.MacroJaccard', prefix='capi'), dict(type='mmseg.IoUMetric')],
    )
    del cfg.fit_dataloader.sampler
    return cfg


def log_of(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def run(cfg):
    runner = Runner.from_cfg(cfg)
    return runner, (runner.test() if cfg.get('test_cfg') else runner.train())


@pytest.mark.parametrize('kind', [seg_config, fit_config])
@pytest.mark.parametrize('values', [(0, 255), (255, 0)])
def test_masks_of_0_and_255_are_refused_before_anything_is_done(kind, values, tmp_path):
    write_masks(tmp_path / 'data', [halves(*values), halves(0, 0), halves(255, 255), halves(*values)])
    with pytest.raises(InputError, match=r"pixels of label 255 are ignored and all other pixels are of 'bg'.*map 255"):
        run(kind(tmp_path / 'data', tmp_path / 'run'))
    assert not (tmp_path / 'run/cache').exists()
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize('kind', [seg_config, fit_config])
def test_masks_of_0_and_1_whose_0_is_reduced_are_refused(kind, tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 4)
    with pytest.raises(
        InputError, match=r'label 255 \(0 in the files, by reduce_zero_label\).*reduce_zero_label=False'
    ):
        run(kind(tmp_path / 'data', tmp_path / 'run', reduce_zero_label=True))


@pytest.mark.parametrize('kind', [seg_config, fit_config])
@pytest.mark.parametrize('split', ['first', 'second'])
def test_labels_outside_the_classes_are_named_with_their_file(kind, split, tmp_path):
    good = [halves(0, 1)] * 4
    write_masks(tmp_path / 'a', [*good[:3], halves(0, 3)] if split == 'first' else good)
    write_masks(tmp_path / 'b', [*good[:3], halves(0, 3)] if split == 'second' else good)
    expected = rf'label 3 in \S*{"a" if split == "first" else "b"}/labels/3\.png is none of the 2 classes.*ignore_index'
    with pytest.raises(InputError, match=expected):
        run(kind(tmp_path / 'a', tmp_path / 'run', **{'val' if kind is seg_config else 'test': tmp_path / 'b'}))


@pytest.mark.parametrize('kind', [seg_config, fit_config])
def test_a_label_map_that_is_missing_is_named(kind, tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 2)
    (tmp_path / 'data/labels/0.png').unlink()
    with pytest.raises(InputError, match=r'images/0\.png has no label map \S*labels/0\.png: check data_prefix'):
        run(kind(tmp_path / 'data', tmp_path / 'run'))


def test_a_test_without_labels_writes_its_predictions(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 2)
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, dict(type='mmengine.TestLoop')
    del cfg.test_dataloader.dataset.pipeline[1], cfg.test_dataloader.dataset.data_prefix['seg_map_path']
    cfg.test_evaluator = dict(type='mmseg.IoUMetric', format_only=True, output_dir=str(tmp_path / 'out'))
    assert not run(cfg)[1]
    assert len(list((tmp_path / 'out').iterdir())) == 2


def test_labels_outside_the_classes_in_a_worker(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1), halves(0, 7)])
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    cfg.train_dataloader.num_workers = 1
    with pytest.raises(InputError, match='label 7 in') as error:
        run(cfg)
    assert 'Traceback' not in str(error.value)


@pytest.mark.parametrize('kind', [seg_config, fit_config])
def test_a_class_without_a_pixel_and_ignored_pixels_are_said_alike(kind, tmp_path):
    classes = ['bg', 'fg', 'rare']
    masks = [halves(0, 1) for _ in range(4)]
    for mask in masks:
        mask[:12] = 255
    write_masks(tmp_path / 'data', masks)
    if kind is seg_config:
        runner, _ = run(seg_config(tmp_path / 'data', tmp_path / 'run', 3, classes=classes))
        first, second, metrics = 'Trained on so far. train', 'val', runner.val()
    else:
        runner, metrics = run(fit_config(tmp_path / 'data', tmp_path / 'run', classes=classes))
        first, second = 'fit', 'test'
    text = log_of(runner)
    for name in (first, second):
        assert (
            text.count(f"{name}_dataloader.dataset ({tmp_path}/data): 1 of 3 classes without a single pixel ('rare')")
            == 1
        )
        assert text.count(f'{name}_dataloader.dataset ({tmp_path}/data): 75.0% of all pixels are ignored') == 1
    for line in text.splitlines():
        assert 'WARNING' in line or 'single pixel' not in line
    assert metrics['dropped/classes_without_labels'] == 1
    assert metrics['dropped/ignored_share'] == 75


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 4)
    runner, _ = run(seg_config(tmp_path / 'data', tmp_path / 'run'))
    metrics = runner.val()
    assert not [key for key in metrics if 'dropped' in key]
    assert 'without a single' not in log_of(runner)
    assert 'are ignored' not in log_of(runner)


def test_images_of_two_sizes_are_a_sentence(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1), halves(0, 1, 24)])
    with pytest.raises(InputError, match=r'images of 2 sizes, such as \(3, 16, 16\) and \(3, 24, 24\)'):
        run(seg_config(tmp_path / 'data', tmp_path / 'run'))
    write_masks(tmp_path / 'same', [halves(0, 1), halves(0, 1)])
    with pytest.raises(InputError, match='images of 2 sizes'):  # of the validation
        run(seg_config(tmp_path / 'same', tmp_path / 'run2', val=tmp_path / 'data'))


def test_other_errors_stay_what_they_are(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 2)
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    runner = Runner.from_cfg(cfg)
    runner.model.decode_head.forward = lambda inputs: (_ for _ in ()).throw(RuntimeError('something else'))
    with pytest.raises(RuntimeError, match='something else'):
        runner.train()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'val_dataloader.dataset.metainfo.classes': ['fg', 'bg']}, "class 0 is 'bg' in the first and 'fg' in the sec"),
        ({'val_dataloader.dataset.ignore_index': 254}, 'ignores label 255 and .* label 254'),
        ({'val_evaluator.ignore_index': 0}, 'IoUMetric ignores label 0 and .* label 255'),
        ({'model.decode_head.ignore_index': 7}, r'model\.decode_head ignores label 7 and .* label 255'),
        (
            {f'{split}_dataloader.dataset.metainfo.classes': ['bg', 'fg', 'x'] for split in ('train', 'val')},
            r'model\.decode_head\.num_classes is 2 and .* has 3 classes: set model\.decode_head\.num_classes=3',
        ),
    ],
)
def test_training_and_validation_agree(changes, message, tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 2)
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    cfg.merge_from_dict(changes)
    with pytest.raises(InputError, match=message):
        run(cfg)


def test_a_checkpoint_is_tested_on_the_classes_that_it_was_trained_on(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 2)
    run(seg_config(tmp_path / 'data', tmp_path / 'run'))
    for classes, refused in ((CLASSES, False), (['fg', 'bg'], True)):
        cfg = seg_config(tmp_path / 'data', tmp_path / 'test', classes=classes)
        cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, dict(type='mmengine.TestLoop')
        cfg.test_evaluator = cfg.val_evaluator
        cfg.load_from = str(next((tmp_path / 'run').glob('*.pth')))
        if refused:
            with pytest.raises(InputError, match=r"checkpoint was trained on and test_.* 'bg' in the first and 'fg'"):
                run(cfg)
        else:
            assert 'mIoU' in run(cfg)[1]
    # A new training from these weights may have other classes.
    cfg = seg_config(tmp_path / 'data', tmp_path / 'new', classes=['fg', 'bg'])
    cfg.load_from = str(next((tmp_path / 'run').glob('*.pth')))
    run(cfg)


def write_folders(root, names):
    for name in names:
        (root / name).mkdir(parents=True)
        for j in range(4):
            Image.fromarray(np.full((SIDE, SIDE, 3), 60 * 'abcd'.index(name) + j, np.uint8)).save(
                root / name / f'{j}.png'
            )


def cls_loader(root, kind, infinite=False):
    return dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='mmmim.PositionSampler' if infinite else 'mmengine.DefaultSampler', shuffle=infinite),
        collate_fn=dict(type='mmengine.default_collate'),
        dataset=dict(
            type=kind,
            data_root=str(root),
            with_label=True,
            pipeline=[dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')],
        ),
    )


def cls_config(train, val, work_dir, kind='mmmim.ImageFolder', num_classes=3):
    """Fine-tuning of mmpretrain's classifier."""
    model = dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[0] * 3, std=[255] * 3),
        backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=num_classes,
            in_channels=32,
            topk=1,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
    )
    return base(
        work_dir,
        model=model,
        train_dataloader=cls_loader(train, kind, infinite=True),
        val_dataloader=cls_loader(val, kind),
        train_cfg=dict(type='mmengine.IterBasedTrainLoop', max_iters=3, val_interval=3),
        val_cfg=dict(type='mmengine.ValLoop'),
        val_evaluator=dict(type='mmpretrain.Accuracy'),
        optim_wrapper=dict(type='mmengine.OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
    )


@pytest.mark.parametrize('kind', ['mmmim.ImageFolder', 'mmpretrain.CustomDataset'])
@pytest.mark.parametrize(('train', 'val'), [('abc', 'ac'), ('ac', 'abc'), ('abc', 'abd')])
def test_fine_tuning_compares_class_folders(kind, train, val, tmp_path):
    write_folders(tmp_path / 'train', train)
    write_folders(tmp_path / 'val', val)
    with pytest.raises(InputError, match=r'train_dataloader\.dataset \(\S+\) and val_dataloader\.dataset .*different'):
        run(cls_config(tmp_path / 'train', tmp_path / 'val', tmp_path / 'run', kind))


def test_folders_under_given_names_are_compared_too(tmp_path):
    write_folders(tmp_path / 'train', 'abc')
    write_folders(tmp_path / 'val', 'abd')
    cfg = cls_config(tmp_path / 'train', tmp_path / 'val', tmp_path / 'run')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = dict(classes=['x', 'y', 'z'])
    with pytest.raises(InputError, match=r"different class folders .*'c' only in the first, 'd' only in the second"):
        run(cfg)


def test_fine_tuning_says_which_class_has_no_image(tmp_path):
    write_folders(tmp_path / 'train', 'abc')
    write_folders(tmp_path / 'val', 'ac')
    (tmp_path / 'val/b').mkdir()
    runner, _ = run(cls_config(tmp_path / 'train', tmp_path / 'val', tmp_path / 'run'))
    assert "1 of 3 classes without a single image ('b')" in log_of(runner)
    assert runner.val()['dropped/classes_without_labels'] == 1


def test_a_head_of_too_few_classes_is_refused(tmp_path):
    write_folders(tmp_path / 'train', 'abc')
    with pytest.raises(InputError, match=r'model\.head\.num_classes is 2 and .* has 3 classes'):
        run(cls_config(tmp_path / 'train', tmp_path / 'train', tmp_path / 'run', num_classes=2))


@pytest.mark.parametrize('named', [True, False])
def test_classes_of_images_outside_the_names_are_refused(named, tmp_path):
    write_folders(tmp_path / 'data', 'abc')
    (tmp_path / 'list.txt').write_text('a/0.png 0\nb/0.png 2\nc/0.png 3\n')
    cfg = cls_config(tmp_path / 'data', tmp_path / 'data', tmp_path / 'run', 'mmpretrain.CustomDataset')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.ann_file = str(tmp_path / 'list.txt')
        loader.dataset.metainfo = dict(classes=['a', 'b', 'c']) if named else {}
    with pytest.raises(InputError, match=r'label 3 in \S*c/0\.png is none of the 3 classes: classes are numbered'):
        run(cfg)


def test_fitted_classification_compares_class_folders(tmp_path):
    write_folders(tmp_path / 'fit', 'abc')
    write_folders(tmp_path / 'test', 'ac')
    cfg = fit_config(tmp_path, tmp_path / 'run')
    cfg.model.features = 'pooled'
    cfg.fit_dataloader, cfg.test_dataloader = (
        cls_loader(tmp_path / name, 'mmmim.ImageFolder') for name in ('fit', 'test')
    )
    for loader in (cfg.fit_dataloader, cfg.test_dataloader):
        loader.collate_fn = dict(type='mmengine.pseudo_collate')
    del cfg.fit_dataloader.sampler
    cfg.test_evaluator = [dict(type='mmpretrain.Accuracy')]
    with pytest.raises(InputError, match=r"fit_dataloader\.dataset .* have different classes .*'b' only in the first"):
        run(cfg)
    (tmp_path / 'test/b').mkdir()
    metrics = run(cfg)[1]
    assert metrics['accuracy/top1'] == 100
    assert metrics['dropped/classes_without_labels'] == 1
    cfg.test_cfg.probe.k = [13]
    with pytest.raises(InputError, match=r'test_cfg\.probe\.k: 13 neighbours of 12 samples to fit on'):
        run(cfg)


def test_too_many_neighbours_are_refused_before_features_are_extracted(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1)] * 4)
    cfg = fit_config(tmp_path / 'data', tmp_path / 'run')
    cfg.test_cfg.probe.k, cfg.test_cfg.held_out = [1, 60], 0.25
    with pytest.raises(InputError, match=r'test_cfg\.probe\.k: 60 neighbours of 48 samples'):
        run(cfg)
    assert not (tmp_path / 'run/cache').exists()


@pytest.mark.parametrize('level', [logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_no_warning_is_kept_from_the_screen(level):
    keep = _ShortMessages().filter
    for message in ('a\n' * 50, 'Exp name: x', '"FileClient" will be deprecated in future'):
        assert keep(logging.LogRecord('mmengine', level, '', 0, message, (), None))
    assert not keep(logging.LogRecord('mmengine', logging.INFO, '', 0, 'a\n' * 50, (), None))
    assert not keep(logging.LogRecord('mmengine', logging.INFO, '', 0, 'Exp name: x', (), None))
    assert keep(logging.LogRecord('mmengine', logging.INFO, '', 0, 'short', (), None))


@pytest.mark.parametrize(('images', 'batch', 'left'), [(15, 7, True), (14, 7, False), (15, 8, False), (1, 4, True)])
def test_a_single_image_at_the_end_is_foreseen(images, batch, left):
    from mmmim.engine.hooks.labels_hook import check_last_batch
    from mmmim.models.target_generators import OnlineClustering, PixelTarget

    loader = torch.utils.data.DataLoader(range(images), batch_size=batch)
    model = torch.nn.ModuleList([OnlineClustering(4, 8)])
    check_last_batch('val_dataloader', loader, torch.nn.ModuleList([PixelTarget(4)]), 1)
    if left:
        remedy = 'batch_size=8' if images == 15 else 'more images'
        with pytest.raises(InputError, match=rf'val_dataloader: {images} images in batches of {batch} leave.*{remedy}'):
            check_last_batch('val_dataloader', loader, model, 1)
    else:
        check_last_batch('val_dataloader', loader, model, 1)
    check_last_batch('val_dataloader', torch.utils.data.DataLoader(range(15), 7, drop_last=True), model, 1)


def test_a_validation_of_a_clustering_method_is_looked_at_before_the_run():
    from types import SimpleNamespace

    from mmmim.engine.hooks import LabelsHook
    from mmmim.models.target_generators import OnlineClustering

    loop = SimpleNamespace(dataloader=torch.utils.data.DataLoader(range(15), 7), evaluator=SimpleNamespace(metrics=[]))
    for name in ('val', 'test'):
        runner = SimpleNamespace(model=torch.nn.ModuleList([OnlineClustering(4, 8)]), world_size=1)
        setattr(runner, f'_{name}_loop', loop)
        with pytest.raises(InputError, match=f'{name}_dataloader: 15 images in batches of 7 leave a single image'):
            LabelsHook().before_run(runner)
