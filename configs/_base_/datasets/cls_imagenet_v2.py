# ImageNetV2 as a test set of a head of ImageNet-1k: 10 images of each of its 1000 classes, matched frequency,
# docs/en/dataset_prepare.md#test-sets-of-imagenet-1k.
_base_ = './cls_imagenet_a.py'

val_set = dict(data_root='data/imagenetv2-matched-frequency-format-val', num_folders=1000, numbered=True)
