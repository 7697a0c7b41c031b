# ImageNet-1k with 128 116 of its training images, the list 10percent.txt of SimCLR:
# docs/en/dataset_prepare.md#imagenet-1k.
_base_ = './cls_imagenet.py'

train_set = dict(list_file='data/imagenet/10percent.txt')
