# Linear probes of DINOv2 (arXiv 2304.07193, and its released code): 13 rates on the CLS tokens of the last block or the
# last four, with and without the mean of the patches, all trained in the same steps by the sum of their losses; SGD
# without weight decay, 12 500 iterations with batch 1024, a cosine to 0. Rates are per 256 images.
#
# The best head is chosen on the validation images, as in the released code; CAPI's cls_sweep.py chooses on training
# images. No number of the four papers is of this probe (not run here). Encoders without CLS have none of these
# features.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_dinov2.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_sweep.py',
    '../_base_/schedules/cls_sweep.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/rrc224.py',
]

model = dict(
    features=dict(
        cls_1='cls',
        cls_1_avg='cls+pooled',
        cls_4='cls@-4+cls@-3+cls@-2+cls@-1',
        cls_4_avg='cls@-4+cls@-3+cls@-2+cls@-1+pooled',
    ),
    head=dict(
        rates=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1],
        decays=[0.0],
        std=0.01,
        num_classes={{_base_.num_classes}},
    ),
    reduction='sum',
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='mmmim.HeadSGD', lr=1024 / 256, momentum=0.9))
param_scheduler = dict(schedule=dict(_delete_=True, type='mmmim.cosine', start=1.0, final=0.0))
test_cfg = dict(type='mmengine.TestLoop')
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
