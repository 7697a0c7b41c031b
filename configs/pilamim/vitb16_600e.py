# PiLaMIM ViT-B/16 on ImageNet-1k (Lee et al., 2025, table 1) with 600 epochs.
#
# The paper's numbers, linear probing of CLS: ImageNet-1k 67.0, CIFAR10 91.0, CIFAR100 73.0, iNat2021 (mini) 29.5,
# Places365 47.0, Clevr/Count 80.7, Clevr/Dist 66.8 (not run here).
_base_ = './vitb16.py'

param_scheduler = dict(schedule=dict(epochs=600))
train_cfg = dict(max_iters=375_000)
