# Fine-tuning of MAE (arXiv 2111.06377, table 9), ViT-L/16: as cls_finetune_mae_vitb16.py in 50 epochs, stochastic depth
# 0.2.
#
# The number of the paper, top-1 on ImageNet-1k: 85.9 (the released code: 85.952; not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_mae_vitl16.py 8 --pretrained CHECKPOINT
_base_ = './cls_finetune_mae_vitb16.py'

model = dict(backbone=dict(drop_path_rate=0.2))
param_scheduler = dict(schedule=dict(warmup_ratio=5 / 50))
train_cfg = dict(max_epochs=50)
