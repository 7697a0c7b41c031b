# MFF ViT-B/16 on ImageNet-1k (arXiv 2308.00261), with the settings of mmpretrain: 300 epochs of 312 iterations, batch
# 4096, 224 px.
#
# The numbers of mmpretrain: ImageNet-1k fine-tuning 83.0, linear probing 64.2 (not run here).
#
# Run: tools/dist_train.sh configs/mff/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/mff_vitb16.py',
    '../_base_/datasets/imagenet_crop.py',
    '../_base_/schedules/mae.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)

param_scheduler = dict(schedule=dict(warmup_ratio=40 / 300))
train_cfg = dict(max_iters=93_600)
