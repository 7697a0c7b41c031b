# Latent MIM, table 11(a): a gap of 8 px.
# Paper, on ImageNet-100: nearest neighbour 63.6, linear probing 75.9, fine-tuning 89.2 (not run here).
_base_ = '../vitb16_in100.py'

train_dataloader = dict(
    collate_fn=dict(gap=8),
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=336,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    ),
)
