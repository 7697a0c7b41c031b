# Latent MIM, table 3: 20 of 196 patches visible, with a gap of 4 px.
# Paper, on ImageNet-100: nearest neighbour 54.6, linear probing 71.2, fine-tuning 88.0 (not run here).
_base_ = './patch_discrimination.py'

train_dataloader = dict(
    collate_fn=dict(gap=4, masking=dict(num_visible=20)),
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=280,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    ),
)
