# Latent MIM, table 11(a): a gap of 6 px.
# Paper, on ImageNet-100: nearest neighbour 62.2, linear probing 76.5, fine-tuning 89.0 (not run here).
_base_ = '../vitb16_in100.py'

train_dataloader = dict(
    collate_fn=dict(gap=6),
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=308,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    ),
)
