# PiLaMIM ViT-B/16 on ImageNet-1k (Lee et al., 2025, table 1): 800 epochs of 625 iterations, batch 2048, 224 px, 49 of
# the 196 patches visible.
#
# The paper's numbers, linear probing of CLS: ImageNet-1k 69.2, CIFAR10 92.4, CIFAR100 74.2, iNat2021 (mini) 31.0,
# Places365 47.6, Clevr/Count 83.8, Clevr/Dist 67.8; RankMe on CIFAR100 254.78 (not run here).
#
# Run: tools/dist_train.sh configs/pilamim/vitb16.py 4
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/pilamim_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/pilamim.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)
