# Random crops of at least 0.08 of the area at 224 x 224 pixels, bicubic, and flips, to train on; to test, the images of
# eval224.py. Another least area, as 0.2 of PiLaMIM: _base_.train_pipeline[1].update(crop_ratio_range=(0.2, 1.0)).
_base_ = './eval224.py'

train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
