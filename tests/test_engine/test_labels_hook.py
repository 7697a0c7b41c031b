"""Labels of trained and fitted models, with real runs on masks and folders that are wrong."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine import Config
from mmpretrain.structures import DataSample
from PIL import Image

from mmmim.engine import Runner
from mmmim.engine.hooks import LabelsHook
from mmmim.engine.hooks.labels_hook import check_last_batch, label_heads, one_size
from mmmim.engine.runner import _ShortMessages
from mmmim.models.target_generators import OnlineClustering, PixelTarget
from mmmim.utils import InputError
from tests.runs import log_of
from tests.segmentation import tiny_encoder

SIDE = 16
CLASSES = ['bg', 'fg']


def write_masks(folder, masks):
    rng = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        pixels = rng.integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'images/{i}.png')
        Image.fromarray(mask.astype(np.uint8)).save(folder / f'labels/{i}.png')


def write_folders(root, names):
    for name in names:
        (root / name).mkdir(parents=True)
        for j in range(4):
            grey = np.full((SIDE, SIDE, 3), 60 * 'abcd'.index(name) + j, np.uint8)
            Image.fromarray(grey).save(root / name / f'{j}.png')


def halves(left, right, side=SIDE):
    return np.where(np.arange(side) < side // 2, left, right)[None].repeat(side, 0)


def loader(dataset, batch, infinite=False):
    sampler = dict(type='mmmim.PositionSampler' if infinite else 'mmengine.DefaultSampler', shuffle=infinite)
    collate = dict(type='mmengine.pseudo_collate')
    return dict(batch_size=batch, num_workers=0, sampler=sampler, collate_fn=collate, dataset=dataset)


def seg_loader(folder, classes=CLASSES, infinite=False, **options):
    pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmseg.LoadAnnotations'), dict(type='mmseg.PackSegInputs')]
    prefix = dict(img_path='images', seg_map_path='labels')
    options.update(img_suffix='.png', metainfo=dict(classes=classes), pipeline=pipeline, data_prefix=prefix)
    return loader(dict(type='mmseg.BaseSegDataset', data_root=str(folder), **options), 2, infinite)


def cls_loader(root):
    pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
    return loader(dict(type='mmmim.ImageFolder', data_root=str(root), with_label=True, pipeline=pipeline), 4)


def base(work_dir, **parts):
    checkpoint = dict(type='mmmim.CheckpointHook', by_epoch=False, interval=100)
    hooks = dict(logger=dict(type='mmengine.LoggerHook', interval=1), checkpoint=checkpoint)
    options = dict(default_scope='mmmim', work_dir=str(work_dir), experiment_name=str(work_dir), default_hooks=hooks)
    return Config(dict(randomness=dict(seed=0), **options, **parts))


def backbone(**options):
    encoder = tiny_encoder(4, SIDE, depth=1)
    return dict(type='mmmim.PretrainedBackbone', checkpoint='random', encoder=encoder, **options)


def seg_config(folder, work_dir, other=None, num_classes=2, **options):
    loss = dict(type='mmseg.CrossEntropyLoss')
    sizes = dict(in_channels=16, channels=16, num_convs=0, num_classes=num_classes)
    model = dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(SIDE, SIDE), seg_pad_val=255),
        backbone=backbone(stride=None),
        decode_head=dict(type='mmseg.FCNHead', concat_input=False, loss_decode=loss, **sizes),
        test_cfg=dict(mode='whole'),
    )
    return base(
        work_dir,
        model=model,
        train_dataloader=seg_loader(folder, infinite=True, **options),
        val_dataloader=seg_loader(other or folder, **options),
        train_cfg=dict(type='mmengine.IterBasedTrainLoop', max_iters=2, val_interval=2),
        val_cfg=dict(type='mmengine.ValLoop'),
        val_evaluator=dict(type='mmseg.IoUMetric'),
        optim_wrapper=dict(type='mmengine.OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
    )


def fit_config(folder, work_dir, other=None, **options):
    preprocessor = dict(type='mmengine.ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255])
    parts = dict(data_preprocessor=preprocessor, backbone=backbone(out_indices=(-1,), frozen=True))
    cfg = base(
        work_dir,
        model=dict(type='mmmim.FrozenFeatures', **parts),
        fit_dataloader=seg_loader(folder, **options),
        test_dataloader=seg_loader(other or folder, **options),
        test_cfg=dict(
            type='mmmim.FitTestLoop',
            probe=dict(type='mmmim.KNNProbe', k=[1], distance=['l2']),
            cache=dict(folder=str(work_dir / 'cache')),
        ),
        test_evaluator=[dict(type='mmmim.MacroJaccard', prefix='capi'), dict(type='mmseg.IoUMetric')],
    )
    del cfg.fit_dataloader.sampler
    return cfg


def run(cfg):
    runner = Runner.from_cfg(cfg)
    return runner, (runner.test() if cfg.get('test_cfg') else runner.train())


def refused(cfg, message):
    with pytest.raises(InputError, match=message) as error:
        run(cfg)
    return str(error.value)


GOOD = [halves(0, 1)] * 4
ONE_OUTSIDE = [*GOOD[:3], halves(0, 3)]
BINARY = [halves(0, 255), halves(0, 0), halves(255, 255), halves(0, 255)]
OUTSIDE = r'label 3 in \S*{}/labels/3\.png is none of the 2 classes.*ignore_index'
REDUCED = r'label 255 \(0 in the files, by reduce_zero_label\).*reduce_zero_label=False'
NO_MAP = r'images/0\.png has no label map \S*labels/0\.png: check data_prefix'
MASKS = {
    '0-255': (BINARY, BINARY, r"pixels of label 255 are ignored and all other pixels are of 'bg'.*map 255"),
    'reduced': (GOOD, GOOD, REDUCED),
    '3': (ONE_OUTSIDE, GOOD, OUTSIDE.format('one')),
    'val': (GOOD, ONE_OUTSIDE, OUTSIDE.format('other')),
    'none': (GOOD, GOOD, NO_MAP),
}


@pytest.mark.parametrize('kind', [seg_config, fit_config])
@pytest.mark.parametrize('case', MASKS)
def test_masks_that_are_wrong_are_refused(kind, case, tmp_path):
    first, second, message = MASKS[case]
    write_masks(tmp_path / 'one', first)
    write_masks(tmp_path / 'other', second)
    if case == 'none':
        (tmp_path / 'one/labels/0.png').unlink()
    options = {'reduce_zero_label': True} if case == 'reduced' else {}
    cfg = kind(tmp_path / 'one', tmp_path / 'run', tmp_path / 'other', **options)
    if kind is seg_config:
        cfg.train_dataloader.num_workers = int(case == '3')  # which is found in a worker
    assert 'Traceback' not in refused(cfg, message)
    if first is second:  # before anything is done
        assert not (tmp_path / 'run/cache').exists()
        assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_test_without_labels_writes_its_predictions(tmp_path):
    write_masks(tmp_path / 'data', GOOD[:2])
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, dict(type='mmengine.TestLoop')
    del cfg.test_dataloader.dataset.pipeline[1], cfg.test_dataloader.dataset.data_prefix['seg_map_path']
    cfg.test_evaluator = dict(type='mmseg.IoUMetric', format_only=True, output_dir=str(tmp_path / 'out'))
    assert not run(cfg)[1]
    assert len(list((tmp_path / 'out').iterdir())) == 2


@pytest.mark.parametrize('kind', [seg_config, fit_config])
def test_a_class_without_a_pixel_and_ignored_pixels_are_said_alike(kind, tmp_path):
    masks = [halves(0, 1) for _ in range(4)]
    for mask in masks:
        mask[:12] = 255
    write_masks(tmp_path / 'data', masks)
    options = {'num_classes': 3} if kind is seg_config else {}
    runner, metrics = run(kind(tmp_path / 'data', tmp_path / 'run', classes=['bg', 'fg', 'rare'], **options))
    first, second = 'fit', 'test'
    if kind is seg_config:
        first, second, metrics = 'Trained on so far. train', 'val', runner.val()
    text = log_of(runner)
    for name in (first, second):
        data = f'{name}_dataloader.dataset ({tmp_path}/data)'
        for sentence in ("1 of 3 classes without a single pixel ('rare')", '75.0% of all pixels are ignored'):
            assert text.count(f'{data}: {sentence}') == 1
    assert all('WARNING' in line for line in text.splitlines() if 'single pixel' in line)
    assert metrics['dropped/classes_without_labels'] == 1
    assert metrics['dropped/ignored_share'] == 75


def test_images_of_two_sizes_are_a_sentence(tmp_path):
    write_masks(tmp_path / 'data', [halves(0, 1), halves(0, 1, 24)])
    write_masks(tmp_path / 'same', GOOD[:2])
    sizes = r'images of 2 sizes, such as \(3, 16, 16\) and \(3, 24, 24\)'
    refused(seg_config(tmp_path / 'data', tmp_path / 'train'), sizes)
    refused(seg_config(tmp_path / 'same', tmp_path / 'val', tmp_path / 'data'), sizes)
    with pytest.raises(RuntimeError, match='else'), one_size(lambda: {'inputs': [torch.zeros(3, 4, 4)] * 2}):
        raise RuntimeError('something else')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'val_dataloader.dataset.metainfo.classes': ['fg', 'bg']}, "class 0 is 'bg' in the first and 'fg' in the sec"),
        ({'val_evaluator.ignore_index': 0}, 'IoUMetric ignores label 0 and .* label 255'),
        ({'model.decode_head.ignore_index': 7}, r'model\.decode_head ignores label 7 and .* label 255'),
        (
            {f'{split}_dataloader.dataset.metainfo.classes': ['bg', 'fg', 'x'] for split in ('train', 'val')},
            r'model\.decode_head\.num_classes is 2 and .* has 3 classes: set model\.decode_head\.num_classes=3',
        ),
    ],
)
def test_training_and_validation_agree(changes, message, tmp_path):
    write_masks(tmp_path / 'data', GOOD[:2])
    cfg = seg_config(tmp_path / 'data', tmp_path / 'run')
    cfg.merge_from_dict(changes)
    refused(cfg, message)


def test_a_checkpoint_is_tested_on_the_classes_that_it_was_trained_on(tmp_path):
    write_masks(tmp_path / 'data', GOOD[:2])
    runner, _ = run(seg_config(tmp_path / 'data', tmp_path / 'run'))
    assert not [key for key in runner.val() if 'dropped' in key]  # nothing is left out, and so nothing said
    assert not any(words in log_of(runner) for words in ('without a single', 'are ignored'))
    for classes, others in ((CLASSES, False), (['fg', 'bg'], True)):
        cfg = seg_config(tmp_path / 'data', tmp_path / 'test', classes=classes)
        cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, dict(type='mmengine.TestLoop')
        cfg.test_evaluator = cfg.val_evaluator
        cfg.load_from = str(next((tmp_path / 'run').glob('*.pth')))
        if others:
            refused(cfg, r"checkpoint was trained on and test_.* 'bg' in the first and 'fg'")
        else:
            assert 'mIoU' in run(cfg)[1]
    # A new training from these weights may have other classes.
    cfg = seg_config(tmp_path / 'data', tmp_path / 'new', classes=['fg', 'bg'])
    cfg.load_from = str(next((tmp_path / 'run').glob('*.pth')))
    run(cfg)


def test_heads_are_found_by_their_keys_and_labels_outside_of_them_refused():
    head, model = torch.nn.Module(), torch.nn.Module()
    model.head, head.num_classes, model.auxiliary_head = head, 3, torch.nn.ModuleList([head])
    assert list(label_heads(model)) == ['model.auxiliary_head[0]', 'model.head']
    samples = [{'data_samples': DataSample(metainfo={'img_path': 'c.png'}).set_gt_label(label)} for label in (2, 3)]
    data = torch.utils.data.DataLoader(samples, 1, collate_fn=list)
    runner = SimpleNamespace(model=model, world_size=1, _train_loop=SimpleNamespace(dataloader=data))
    LabelsHook().before_run(runner)
    batches = iter(data)
    assert next(batches) == samples[:1]
    with pytest.raises(InputError, match=r'label 3 in c\.png is none of the 3 classes: classes are numbered'):
        next(batches)


def test_scores_of_a_split_that_is_not_comparable_say_so(tmp_path):
    write_folders(tmp_path / 'data', 'ab')
    cfg = fit_config(tmp_path, tmp_path / 'run')
    cfg.model.features = 'pooled'
    cfg.test_evaluator = [dict(type='mmpretrain.Accuracy')]
    cfg.test_cfg.probe.k = [1]
    sets = {}
    for split in ('train', 'test'):
        sets[split] = cls_loader(tmp_path / 'data')
        pool = [dict(type='mmmim.ImageFolder', with_label=True)]
        sets[split]['dataset'].pop('with_label')
        sets[split]['dataset'].update(type='mmmim.CoOpSplit', split_file='split_zhou_ab.json', pool=pool, split=split)
    cfg.fit_dataloader, cfg.test_dataloader = sets.values()
    del cfg.fit_dataloader.sampler
    runner, metrics = run(cfg)
    assert metrics['not_comparable'] == 1
    assert f'test_dataloader.dataset ({tmp_path}/data): {tmp_path}/data/split_zhou_ab.json is not there' in log_of(
        runner
    )
    lists = {
        split: [[f'{name}/{i}.png', label, name] for label, name in enumerate('ab') for i in places]
        for split, places in (('train', (0, 1)), ('val', (2,)), ('test', (3,)))
    }
    (tmp_path / 'data/split_zhou_ab.json').write_text(json.dumps(lists))
    cfg.experiment_name += '_listed'
    metrics = run(cfg)[1]
    assert 'accuracy/top1' in metrics
    assert 'not_comparable' not in metrics


def test_fitted_classification_compares_class_folders(tmp_path):
    write_folders(tmp_path / 'fit', 'abc')
    write_folders(tmp_path / 'test', 'ac')
    cfg = fit_config(tmp_path, tmp_path / 'run')
    cfg.model.features = 'pooled'
    cfg.fit_dataloader, cfg.test_dataloader = (cls_loader(tmp_path / name) for name in ('fit', 'test'))
    del cfg.fit_dataloader.sampler
    cfg.test_evaluator = [dict(type='mmpretrain.Accuracy')]
    refused(cfg, r"fit_dataloader\.dataset .* have different classes .*'b' only in the first")
    (tmp_path / 'test/b').mkdir()
    cfg.test_cfg.probe.k = [13]
    refused(cfg, r'test_cfg\.probe\.k: 13 neighbours of 12 samples to fit on')
    assert not (tmp_path / 'run/cache').exists()  # before features are extracted
    cfg.test_cfg.probe.k = [1]
    metrics = run(cfg)[1]
    assert metrics['accuracy/top1'] == 100
    assert metrics['dropped/classes_without_labels'] == 1


@pytest.mark.parametrize('level', [logging.INFO, logging.WARNING, logging.CRITICAL])
def test_no_warning_is_kept_from_the_screen(level):
    keep = _ShortMessages().filter
    for message in ('a\n' * 50, 'Exp name: x', '"FileClient" will be deprecated in future'):
        kept = level > logging.INFO or message.startswith('"')
        assert keep(logging.LogRecord('mmengine', level, '', 0, message, (), None)) == kept


@pytest.mark.parametrize(
    ('images', 'batch', 'remedy'), [(15, 7, 'batch_size=8'), (14, 7, None), (15, 8, None), (1, 4, 'more images')]
)
def test_a_single_image_at_the_end_is_foreseen(images, batch, remedy):
    data, clustering = torch.utils.data.DataLoader(range(images), batch), torch.nn.ModuleList([OnlineClustering(4, 8)])
    check_last_batch('val_dataloader', data, torch.nn.ModuleList([PixelTarget(4)]), 1)
    check_last_batch('val_dataloader', torch.utils.data.DataLoader(range(15), 7, drop_last=True), clustering, 1)
    for name in ('val', 'test'):
        loop = SimpleNamespace(dataloader=data, evaluator=SimpleNamespace(metrics=[]))
        runner = SimpleNamespace(model=clustering, world_size=1, **{f'_{name}_loop': loop})
        if remedy is None:
            LabelsHook().before_run(runner)
        else:
            words = f'{name}_dataloader: {images} images in batches of {batch} leave a single image at the end'
            with pytest.raises(InputError, match=f'{words}.*{remedy}'):
                LabelsHook().before_run(runner)
