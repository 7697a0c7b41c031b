# ImageNet-Sketch as a test set of a head of ImageNet-1k: 50 889 images of its 1000 classes,
# docs/en/dataset_prepare.md#test-sets-of-imagenet-1k.
_base_ = './cls_imagenet_a.py'

val_set = dict(data_root='data/imagenet-sketch', num_folders=1000)
