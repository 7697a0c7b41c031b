# Whole images at 224 x 224 pixels, bilinear by Pillow, without crop and flip: CIFAR in PiLaMIM (its released code).
train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmcv.Resize', scale=(224, 224), keep_ratio=False, interpolation='bilinear', backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]
val_pipeline = train_pipeline
