# FashionScenes, one garment at 32 px: written on first use, see docs/en/dataset_prepare.md.
train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset',
        dataset=dict(
            type='mmmim.FashionScenes',
            data_root='data/fashion_scenes',
            subset='single',
            split='train',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmpretrain.RandomResizedCrop',
                    scale=32,
                    crop_ratio_range=(0.6, 1.0),
                    interpolation='bicubic',
                    backend='pillow',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    ),
)

val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.SeededDataset',  # the same masks every time
        dataset=dict(
            type='mmmim.FashionScenes',
            data_root='data/fashion_scenes',
            subset='single',
            split='val',
            pipeline=[dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')],
        ),
    ),
)
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.SeededDataset',  # the same masks every time
        dataset=dict(
            type='mmmim.FashionScenes',
            data_root='data/fashion_scenes',
            subset='single',
            split='test',
            pipeline=[dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')],
        ),
    ),
)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
val_evaluator = dict(type='mmmim.MeanLosses')
test_evaluator = dict(type='mmmim.MeanLosses')

# Features are scored on labelled images while the model trains: class of the garment, and segmentation.
probe_data = dict(
    train=dict(
        type='mmmim.FashionScenes',
        data_root='data/fashion_scenes',
        subset='single',
        split='train',
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_seg_map',)),
        ],
    ),
    val=dict(
        type='mmmim.FashionScenes',
        data_root='data/fashion_scenes',
        subset='single',
        split='val',
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_seg_map',)),
        ],
    ),
)

# What trainings of minutes on these images have in common; their configs take it (`_base_.short`).
short = dict(
    train_cfg=dict(max_iters=400, val_interval=200),
    default_hooks=dict(
        logger=dict(interval=25),
        checkpoint=dict(interval=200, max_keep_ckpts=1),
        health=dict(interval=50),
        probe=dict(interval=200, linear=('pooled', 'cls', 'predicted')),
    ),
    log_processor=dict(window_size=25),
)
