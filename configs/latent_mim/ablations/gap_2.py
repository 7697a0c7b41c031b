# Latent MIM, table 11(a): a gap of 2 px.
# Paper, on ImageNet-100: nearest neighbour 44.2, linear probing 66.5, fine-tuning 87.1 (not run here).
_base_ = '../vitb16_in100.py'

train_dataloader = dict(
    collate_fn=dict(gap=2),
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=252,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    ),
)
