# The protocol of cls_linear_pilamim.py on iNaturalist 2021 mini, with batch 8192.
#
# The numbers of the paper, top-1: MAE 25.8, I-JEPA 27.7, BootMAE 26.6, PiLaMIM, 600 epochs, 29.5, 800 epochs, 31.0 (not
# run here).
#
# Run: tools/dist_train.sh configs/eval/cls_linear_pilamim_inat2021.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_pilamim.py',
    '../_base_/datasets/cls_inat2021_mini.py',
    '../_base_/pipelines/rrc224.py',
]

global_batch_size = 8192

model = dict(features=dict(cls='cls'), head=dict(bias='uniform', num_classes={{_base_.num_classes}}))

_base_.train_pipeline[1].update(crop_ratio_range=(0.2, 1.0))

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
