# Latent MIM, table 11(a): contiguous patches.
# Paper, on ImageNet-100: nearest neighbour 27.6, linear probing 51.8, fine-tuning 83.3 (not run here).
_base_ = '../vitb16_in100.py'

train_dataloader = dict(
    collate_fn=dict(gap=0),
    dataset=dict(
        dataset=dict(
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
            ]
        )
    ),
)
