# FashionScenes, one to five garments of 16 to 26 px on a photograph at 64 px; the class is their number.
_base_ = './fashion_scenes.py'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            subset='multi',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmpretrain.RandomResizedCrop',
                    scale=64,
                    crop_ratio_range=(0.6, 1.0),
                    interpolation='bicubic',
                    backend='pillow',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ],
        )
    )
)
val_dataloader = dict(dataset=dict(dataset=dict(subset='multi')))
test_dataloader = dict(dataset=dict(dataset=dict(subset='multi')))
probe_data = dict(train=dict(subset='multi'), val=dict(subset='multi'))
