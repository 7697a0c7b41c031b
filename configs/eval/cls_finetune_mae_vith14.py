# Fine-tuning of MAE (arXiv 2111.06377, table 9), ViT-H/14: as cls_finetune_mae_vitb16.py in 50 epochs, stochastic depth
# 0.3.
#
# The number of the paper, top-1 on ImageNet-1k: 86.9 (the released code: 86.928; not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_mae_vith14.py 8 --pretrained CHECKPOINT
_base_ = './cls_finetune_mae_vitb16.py'

model = dict(backbone=dict(drop_path_rate=0.3))
param_scheduler = dict(schedule=dict(warmup_ratio=5 / 50))
train_cfg = dict(max_epochs=50)
