# ImageNet-1k in folders, labels not used, with the augmentation of MAE: see docs/en/dataset_prepare.md.
train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset',
        dataset=dict(
            type='mmmim.ImageFolder',
            data_root='data/imagenet/train',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=224,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    ),
)
