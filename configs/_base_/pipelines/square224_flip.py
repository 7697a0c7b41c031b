# square224.py with flips in training: CLEVR in PiLaMIM (its released code).
_base_ = './square224.py'

train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmcv.Resize', scale=(224, 224), keep_ratio=False, interpolation='bilinear', backend='pillow'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
