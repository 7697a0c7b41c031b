# The protocol of cls_linear_pilamim.py on CLEVR/Count, or on CLEVR/Dist with MMMIM_DATA=clevr_distance before the
# command: whole images at 224 x 224 pixels, bilinear, and flips, as in the released code (the paper: random crops);
# batch 1024. CLS is the feature of all methods here.
#
# The numbers of the paper, top-1 on Count and Dist: MAE 76.6, 65.0; I-JEPA 71.6, 62.0; BootMAE 82.6, 68.7; PiLaMIM, 600
# epochs, 80.7, 66.8, 800 epochs, 83.8, 67.8 (not run here). The labels of Dist are VTAB's; those of the paper are not
# released.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_pilamim_clevr.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_pilamim.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:clevr_count}}.py',
    '../_base_/pipelines/square224_flip.py',
]

global_batch_size = 1024

model = dict(features=dict(cls='cls'), head=dict(bias='uniform', num_classes={{_base_.num_classes}}))

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
