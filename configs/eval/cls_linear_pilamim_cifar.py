# The protocol of cls_linear_pilamim.py on CIFAR-100, or on CIFAR-10 with MMMIM_DATA=cifar10 before the command: whole
# images at 224 x 224 pixels, bilinear, without crop and flip, as in the released code (the paper: random crops); batch
# 1024.
#
# The numbers of the paper, top-1 on CIFAR-10 and CIFAR-100: MAE 86.7, 66.0; I-JEPA 86.3, 66.1; BootMAE 90.8, 72.7;
# PiLaMIM, 600 epochs, 91.0, 73.0, 800 epochs, 92.4, 74.2 (not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_linear_pilamim_cifar.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_pilamim.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:cifar100}}.py',
    '../_base_/pipelines/square224.py',
]

global_batch_size = 1024

model = dict(features=dict(cls='cls'), head=dict(bias='uniform', num_classes={{_base_.num_classes}}))

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
