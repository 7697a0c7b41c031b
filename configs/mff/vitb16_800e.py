# MFF ViT-B/16 on ImageNet-1k (arXiv 2308.00261), 800 epochs.
#
# The numbers of mmpretrain: ImageNet-1k fine-tuning 83.7, linear probing 68.3 (not run here).
_base_ = './vitb16.py'

param_scheduler = dict(schedule=dict(warmup_ratio=40 / 800))
train_cfg = dict(max_iters=249_600)
