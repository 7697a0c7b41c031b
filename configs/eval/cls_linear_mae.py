# Linear probe of MAE (arXiv 2111.06377, appendix A.1): batch normalisation without weights and a linear layer on the
# CLS token of the last block after the final norm, by LARS with batch 16 384 in 90 epochs. Statistics of the batch norm
# are those of the images of a process, as in the released code (of 512 images each there). The last epoch is the
# result; the best one is said as well.
#
# The numbers of the paper, top-1 on ImageNet-1k after 1600 epochs of pre-training: ViT-B/16 68.0, ViT-L/16 75.8,
# ViT-H/14 76.6 (the released PyTorch code: 67.8, 76.0, 77.2; not run here). ViT-L and ViT-H take 50 epochs:
# --cfg-options train_cfg.max_epochs=50 param_scheduler.schedule.warmup_ratio=0.2. The mean of the patches in the place
# of CLS: model.features.cls=pooled. Another data set of configs/_base_/datasets: MMMIM_DATA=cifar100 before the
# command.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_mae.py 8 --pretrained CHECKPOINT
# Test: tools/dist_test.sh configs/eval/cls_linear_mae.py CLASSIFIER 8
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_mae.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/rrc224.py',
]

model = dict(features=dict(cls='cls'), head=dict(num_classes={{_base_.num_classes}}))

_base_.train_pipeline[1].update(type='mmmim.MAERandomResizedCrop')

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
