# Images to fine-tune on: random crops at 224 x 224 pixels, bicubic, flips, two operations of RandAugment of magnitude 9
# +- 0.5 in its increasing set, and random erasing with noise; to test, the images of eval224.py.
#
# Differences from timm's, which MAE and BEiT use: operations are mmpretrain's (OpenCV, not Pillow), and noise is drawn
# in pixels, of ImageNet's means and deviations, and rounded to 8 bits, not N(0, 1) after normalisation.
_base_ = './eval224.py'

# The policies that mmpretrain calls timm_increasing.
policies = [
    dict(type='mmpretrain.AutoContrast'),
    dict(type='mmpretrain.Equalize'),
    dict(type='mmpretrain.Invert'),
    dict(type='mmpretrain.Rotate', magnitude_range=(0, 30)),
    dict(type='mmpretrain.Posterize', magnitude_range=(4, 0)),
    dict(type='mmpretrain.Solarize', magnitude_range=(256, 0)),
    dict(type='mmpretrain.SolarizeAdd', magnitude_range=(0, 110)),
    dict(type='mmpretrain.ColorTransform', magnitude_range=(0, 0.9)),
    dict(type='mmpretrain.Contrast', magnitude_range=(0, 0.9)),
    dict(type='mmpretrain.Brightness', magnitude_range=(0, 0.9)),
    dict(type='mmpretrain.Sharpness', magnitude_range=(0, 0.9)),
    dict(type='mmpretrain.Shear', magnitude_range=(0, 0.3), direction='horizontal'),
    dict(type='mmpretrain.Shear', magnitude_range=(0, 0.3), direction='vertical'),
    dict(type='mmpretrain.Translate', magnitude_range=(0, 0.45), direction='horizontal'),
    dict(type='mmpretrain.Translate', magnitude_range=(0, 0.45), direction='vertical'),
]

train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(
        type='mmpretrain.RandAugment',
        policies=policies,
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),  # BGR, as the images are
    ),
    dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395],
    ),
    dict(type='mmpretrain.PackInputs'),
]
del policies  # not a key of the config
