# ImageNet-1k with the augmentation of MaskFeat in SemanticMIM (arXiv 2406.10673, table 2).
_base_ = './imagenet.py'

_base_.train_dataloader.dataset.dataset.pipeline[1].crop_ratio_range = (0.5, 1.0)
