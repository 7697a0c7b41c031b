# ImageNet-1k with the augmentation of BEiT in SemanticMIM (arXiv 2406.10673, table 2).
_base_ = './imagenet.py'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=224,
                    crop_ratio_range=(0.08, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    )
)
