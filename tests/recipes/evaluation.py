"""Protocols of segmentation: SemanticMIM (arXiv 2406.10673, tables 4, 6), CAPI (arXiv 2502.08769, tables 3, 7)."""

import math

from tests.recipes import recipe, row, steps

TRAIN = 'train_dataloader.dataset.dataset'
VAL, TEST = 'val_dataloader.dataset', 'test_dataloader.dataset'
OURS = 'our choice'


def scale(source: str, at: int, size: tuple[int, int]) -> dict:
    """Of images in validation and test."""
    return recipe(*(row(source, f'{part}.pipeline.{at}', scale=size) for part in (VAL, TEST)))


def data(source: str, kind: str, classes: int, root: str | None, *heads: str) -> dict:
    """A data set and its classes."""
    train = row(source, TRAIN, type=kind, data_root=root) if root else {}
    parts = [row(source, part, type=kind) for part in (VAL, TEST)]
    return recipe(train, *parts, *(row(source, f'model.{head}', num_classes=classes) for head in heads))


CROPS = recipe(
    steps(
        'pipeline of BEiT in mmsegmentation',
        f'{TRAIN}.pipeline',
        'mmmim.LoadImage',
        'mmmim.LoadLabelMap',
        'mmcv.RandomResize',
        'mmseg.RandomCrop',
        'mmcv.RandomFlip',
        'mmseg.PhotoMetricDistortion',
        'mmseg.PackSegInputs',
    ),
    *(
        steps(
            'the size of the file is what is scored',
            f'{part}.pipeline',
            'mmmim.LoadImage',
            'mmcv.Resize',
            'mmmim.LoadLabelMap',
            'mmseg.PackSegInputs',
        )
        for part in (VAL, TEST)
    ),
    row('crops of BEiT in mmsegmentation', f'{TRAIN}.pipeline.2', ratio_range=(0.5, 2.0), keep_ratio=True),
    row('crops of BEiT in mmsegmentation', f'{TRAIN}.pipeline.3', cat_max_ratio=0.75),
    row('crops of BEiT in mmsegmentation', f'{TRAIN}.pipeline.4', prob=0.5),
    *(row('the size of the file is what is scored', f'{part}.pipeline.1', keep_ratio=True) for part in (VAL, TEST)),
)


def crops(source: str, side: int, long: int) -> dict:
    """Square crops of images whose shorter side is a number of pixels, in training and test."""
    return recipe(
        row(source, f'{TRAIN}.pipeline.2', scale=(long, side)),
        row(source, f'{TRAIN}.pipeline.3', crop_size=(side, side)),
        scale(source, 1, (long, side)),
    )


UPERNET = recipe(
    row('table 4: batch size', global_batch_size=16),
    row('table 4: steps', train_cfg=dict(max_iters=160_000)),
    row(
        'table 4: Adam, peak learning rate, decay; released code: layers decay by 0.9; bfloat16 here',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05),
        paramwise_cfg=dict(layer_decay=0.9),
    ),
    row(
        'vectors do not decay',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'bias|(norm|ln|bn)\d?\.weight$|4x\.1\.weight$|pos_embed|positions\.|token|gamma|scale\d\.weight$',
        decay_mult=0.0,
    ),
    row('table 4: warm-up', 'param_scheduler.warmup', start_factor=1e-6, begin=0, end=1500),
    row('table 4: linear, to 0', 'param_scheduler.decay', power=1.0, eta_min=0.0, begin=1500),
    row('table 4: stochastic depth', 'model.backbone', type='mmmim.PretrainedBackbone', drop_path_rate=0.1),
    row(
        'released code: blocks at 1/3, 1/2, 2/3 and all of the depth, without the final norm',
        'model.backbone',
        out_indices=(1 / 3, 1 / 2, 2 / 3, 1.0),
        final_norm=False,
        stride=16,
    ),
    row('released code', 'model.neck', type='mmseg.Feature2Pyramid', rescales=[4, 2, 1, 0.5]),
    row('released code', 'model.decode_head', type='mmseg.UPerHead', pool_scales=(1, 2, 3, 6), dropout_ratio=0.1),
    row('as wide as the encoder', 'model.decode_head', channels='pretrained:embed_dim'),
    row('released code', 'model.decode_head.loss_decode', type='mmseg.CrossEntropyLoss', loss_weight=1.0),
    row('released code', 'model.auxiliary_head', type='mmseg.FCNHead', channels=256, num_convs=1, dropout_ratio=0.1),
    row('released code', 'model.auxiliary_head.loss_decode', type='mmseg.CrossEntropyLoss', loss_weight=0.4),
    row('released code', 'model.test_cfg', mode='slide', crop_size=(640, 640), stride=(426, 426)),
    data('table 4', 'mmseg.ADE20KDataset', 150, 'data/ade/ADEChallengeData2016', 'decode_head', 'auxiliary_head'),
    CROPS,
    crops('table 4: input resolution', 640, 2560),
)

LINEAR = recipe(
    row('a linear classifier of one frozen map', 'model.backbone', type='mmmim.PretrainedBackbone', frozen=True),
    row('a 1x1 convolution', 'model.decode_head', type='mmseg.FCNHead', num_convs=0, dropout_ratio=0.0),
    row('a 1x1 convolution', 'model.decode_head', channels='pretrained:embed_dim'),
    row('released code', 'model.decode_head.loss_decode', type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
    row('released code', 'model.decode_head.init_cfg', type='mmengine.Normal', std=0.01, bias=0),
    row('released code', 'model.decode_head.init_cfg.override', name='conv_seg'),
)

VOC = recipe(
    row('table 6: batch size', global_batch_size=120),
    row('table 6: 25 epochs of 10 582 images', train_cfg=dict(max_iters=math.ceil(25 * 10_582 / 120))),
    row('table 6: SGD, no decay', 'optim_wrapper', dtype=None),
    row('table 6', 'optim_wrapper.optimizer', type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    row('table 6: steps; released code: every 10 epochs', 'param_scheduler', milestones=[882, 1764], gamma=0.1),
    row('table 1: the 6th block; released code: no final norm', 'model.backbone', out_indices=[5], final_norm=False),
    row('released code', 'model', neck=None),
    row('table 6', 'model.test_cfg', mode='whole'),
    data('table 6', 'mmseg.PascalVOCDataset', 21, None, 'decode_head'),
    row('table 6', TRAIN, type='mmengine.ConcatDataset'),
    *(
        recipe(
            steps(
                'table 6: crops, flips, training resolution',
                f'{TRAIN}.datasets.{i}.pipeline',
                'mmmim.LoadImage',
                'mmmim.LoadLabelMap',
                'mmmim.RandomResizedCrop',
                'mmcv.RandomFlip',
                'mmmim.ResizeLabelMap',
                'mmseg.PackSegInputs',
            ),
            row('table 6: training images', f'{TRAIN}.datasets.{i}', type='mmseg.PascalVOCDataset'),
            row('table 6: training images', f'{TRAIN}.datasets.{i}', data_root='data/VOCdevkit/VOC2012'),
            row(
                'released code',
                f'{TRAIN}.datasets.{i}.pipeline.2',
                crop_ratio_range=(0.8, 1.0),
                interpolation='bilinear',
            ),
            row('table 6: input resolution', f'{TRAIN}.datasets.{i}.pipeline.2', scale=448),
            row('released code: flips', f'{TRAIN}.datasets.{i}.pipeline.3', prob=0.5),
            row('table 6: training resolution', f'{TRAIN}.datasets.{i}.pipeline.4', scale=100),
        )
        for i in range(2)
    ),
    *(
        steps(
            'table 6: eval resolution',
            f'{part}.pipeline',
            'mmmim.LoadImage',
            'mmmim.LoadLabelMap',
            'mmcv.Resize',
            'mmmim.ForgetOriginalSize',
            'mmseg.PackSegInputs',
        )
        for part in (VAL, TEST)
    ),
    scale('table 6: eval resolution', 2, (448, 448)),
    *(row('table 6', f'{part}.pipeline.2', keep_ratio=False) for part in (VAL, TEST)),
    base=LINEAR,
)

LINEAR_ADE20K = recipe(
    row(OURS, global_batch_size=16, train_cfg=dict(max_iters=40_000)),
    row(OURS, 'optim_wrapper', dtype=None),
    row(OURS, 'optim_wrapper.optimizer', type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4),
    row(OURS, 'param_scheduler.warmup', start_factor=1e-6, begin=0, end=1500),
    row(OURS, 'param_scheduler.decay', power=1.0, eta_min=0.0, begin=1500),
    row(OURS, 'model.backbone', out_indices=(-1,)),
    row(OURS, 'model.neck', type='mmmim.FeatureBatchNorm'),
    row(OURS, 'model.test_cfg', mode='slide', crop_size=(512, 512), stride=(341, 341)),
    data(OURS, 'mmseg.ADE20KDataset', 150, 'data/ade/ADEChallengeData2016', 'decode_head'),
    CROPS,
    crops(OURS, 512, 2048),
    base=LINEAR,
)

FITTED = recipe(
    row('appendix: patch features of the last block', 'model', features='patches'),
    row('appendix', 'model.backbone', type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True),
    row('appendix: chosen by mIoU on a tenth of the training images', 'test_cfg', held_out=0.1, choose_by='mIoU'),
    *(
        steps(
            'appendix: 224 x 224',
            f'{part}.pipeline',
            'mmmim.LoadImage',
            'mmmim.LoadLabelMap',
            'mmcv.Resize',
            'mmseg.PackSegInputs',
        )
        for part in ('fit_dataloader.dataset', TEST)
    ),
    *(
        row('appendix: 224 x 224', f'{part}.pipeline.2', scale=(224, 224), keep_ratio=False, interpolation='bicubic')
        for part in ('fit_dataloader.dataset', TEST)
    ),
)
KNN = recipe(
    row('table 7: grid', 'test_cfg.probe', type='mmmim.KNNProbe', k=[1, 3, 10, 30], distance=['cosine', 'l2']),
    row('table 7: standardised features', 'test_cfg.probe', standardize=True),
    base=FITTED,
)
LOGREG = recipe(
    row(
        'appendix: eight penalties from 1e-6 to 1e5, L-BFGS',
        'test_cfg.probe',
        type='mmmim.LogisticRegressionProbe',
        c=[10 ** (-6 + 11 * i / 7) for i in range(8)],
        max_iter=1000,
        tolerance=1e-12,
    ),
    row('table 7: standardised features', 'test_cfg.probe', standardize=True),
    base=FITTED,
)


def fitted(probe: dict, kind: str) -> dict:
    """A probe on a data set."""
    return recipe(*(row('table 3', part, type=kind) for part in ('fit_dataloader.dataset', TEST)), base=probe)


DATA = {'ade20k': 'mmseg.ADE20KDataset', 'voc2012': 'mmseg.PascalVOCDataset', 'cityscapes': 'mmseg.CityscapesDataset'}

RECIPES = {
    'eval/seg_upernet_ade20k': UPERNET,
    'eval/seg_upernet_ade20k_512': recipe(
        row('MAE (arXiv 2111.06377)', 'model.test_cfg', crop_size=(512, 512), stride=(341, 341)),
        crops('MAE (arXiv 2111.06377): crops', 512, 2048),
        base=UPERNET,
    ),
    'eval/seg_linear_voc2012': VOC,
    'eval/seg_linear_ade20k': LINEAR_ADE20K,
    'eval/seg_linear_cityscapes': recipe(
        data(OURS, 'mmseg.CityscapesDataset', 19, 'data/cityscapes', 'decode_head'),
        row(OURS, f'{TRAIN}.pipeline.2', scale=(2048, 1024)),
        scale(OURS, 1, (2048, 1024)),
        base=LINEAR_ADE20K,
    ),
    **{f'eval/seg_knn_{name}': fitted(KNN, kind) for name, kind in DATA.items()},
    **{f'eval/seg_logreg_{name}': fitted(LOGREG, kind) for name, kind in DATA.items()},
}
