# The protocol of cls_linear_pilamim.py on Places365, whose small images of 256 pixels are tested in their central 224 x
# 224.
#
# The numbers of the paper, top-1: MAE 44.2, I-JEPA 45.3, BootMAE 48.8, PiLaMIM, 600 epochs, 47.0, 800 epochs, 47.6 (not
# run here).
#
# Run: tools/dist_train.sh configs/eval/cls_linear_pilamim_places365.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_pilamim.py',
    '../_base_/datasets/cls_places365.py',
    '../_base_/pipelines/rrc224.py',
]

global_batch_size = 16_384

model = dict(features=dict(cls='cls'), head=dict(bias='uniform', num_classes={{_base_.num_classes}}))

_base_.train_pipeline[1].update(crop_ratio_range=(0.2, 1.0))
_base_.val_pipeline.pop(1)

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
