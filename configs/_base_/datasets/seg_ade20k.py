# ADE20K, 150 classes, label 0 ignored, in crops of 512 pixels: see docs/en/dataset_prepare.md.
ignore_index = 255
num_classes = 150

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset',
        dataset=dict(
            type='mmseg.ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
            ignore_index=ignore_index,
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmmim.LoadLabelMap'),
                dict(
                    type='mmcv.RandomResize',
                    scale=(2048, 512),
                    ratio_range=(0.5, 2.0),
                    keep_ratio=True,
                    resize_type='mmcv.Resize',
                ),
                dict(type='mmseg.RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75, ignore_index=ignore_index),
                dict(type='mmcv.RandomFlip', prob=0.5),
                dict(type='mmseg.PhotoMetricDistortion'),
                dict(type='mmseg.PackSegInputs'),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        ignore_index=ignore_index,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmcv.Resize', scale=(2048, 512), keep_ratio=True),
            # After resizing: predictions are compared at the size of the image file.
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
test_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
