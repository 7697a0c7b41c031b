# FashionScenes with one garment at 32 px, background and ten kinds of garments: written on first use, see
# docs/en/dataset_prepare.md.
custom_imports = dict(imports=['mmmim.datasets.fashion_scenes_segmentation'])

ignore_index = 255
num_classes = 11

train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset',
        dataset=dict(
            type='mmmim.FashionScenesSegmentation',
            data_root='data/fashion_scenes',
            subset='single',
            split='train',
            ignore_index=ignore_index,
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmmim.LoadLabelMap'),
                dict(type='mmmim.RandomResizedCrop', scale=32, crop_ratio_range=(0.6, 1.0)),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenesSegmentation',
        data_root='data/fashion_scenes',
        subset='single',
        split='val',
        ignore_index=ignore_index,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenesSegmentation',
        data_root='data/fashion_scenes',
        subset='single',
        split='test',
        ignore_index=ignore_index,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
test_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
