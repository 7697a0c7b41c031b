# ImageNet-1k with the augmentation of SimMIM (arXiv 2111.09886).
_base_ = './imagenet.py'

_base_.train_dataloader.dataset.dataset.pipeline[1].crop_ratio_range = (0.67, 1.0)
_base_.train_dataloader.dataset.dataset.pipeline[1].interpolation = 'bilinear'
