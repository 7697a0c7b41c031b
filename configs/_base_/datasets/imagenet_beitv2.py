# ImageNet-1k with the augmentation of BEiT v2 (arXiv 2208.06366): colours change before the crop, so that contrast is
# that of the whole picture.
_base_ = './imagenet_beit.py'

_base_.train_dataloader.dataset.dataset.pipeline.insert(1, _base_.train_dataloader.dataset.dataset.pipeline.pop(3))
_base_.train_dataloader.dataset.dataset.pipeline[2].crop_ratio_range = (0.2, 1.0)
