# ImageNet-1k with the augmentation of ConMIM (arXiv 2205.09616): crops and flips, and a second picture of the same crop
# in other colours.
_base_ = ['./imagenet.py', '../pipelines/second_view.py']

_base_.train_dataloader.dataset.dataset.pipeline.insert(3, _base_.second_view)
