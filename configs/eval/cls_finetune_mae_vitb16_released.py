# Fine-tuning of MAE's released ViT-B/16, whose targets are normalised pixels: cls_finetune_mae_vitb16.py with 5e-4 per
# 256 images and a decay of 0.65 from block to block.
#
# The number of the released code, top-1 on ImageNet-1k: 83.664 (four seeds: 83.63, 83.66, 83.52, 83.46; not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_mae_vitb16_released.py 8 --pretrained CHECKPOINT
_base_ = './cls_finetune_mae_vitb16.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4 * 1024 / 256), paramwise_cfg=dict(layer_decay=0.65))
param_scheduler = dict(schedule=dict(final=1e-6 / (5e-4 * 1024 / 256)))
