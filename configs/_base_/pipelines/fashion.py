# FashionScenes at 32 px: random crops of at least 0.6 of the area and flips to train on, whole images to test.
train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.RandomResizedCrop', scale=32, crop_ratio_range=(0.6, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
val_pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
