# ImageNet-A as a test set of a head of ImageNet-1k: 7 500 images of 200 classes, to which predictions are restricted
# by mmmim.AcceptedAccuracy. docs/en/dataset_prepare.md#test-sets-of-imagenet-1k.
_base_ = './cls_imagenet.py'

val_set = dict(
    _delete_=True,
    type='mmmim.ImageNetTestSet',
    data_root='data/imagenet-a',
    num_folders=200,
    section='test-sets-of-imagenet-1k',
)
