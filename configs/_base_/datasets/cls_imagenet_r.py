# ImageNet-R as a test set of a head of ImageNet-1k: 30 000 images of 200 classes, to which predictions are restricted
# by mmmim.AcceptedAccuracy. docs/en/dataset_prepare.md#test-sets-of-imagenet-1k.
_base_ = './cls_imagenet_a.py'

val_set = dict(data_root='data/imagenet-r')
