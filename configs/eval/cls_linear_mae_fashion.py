# The protocol of cls_linear_mae.py on FashionScenes at 32 px, for encoders of 4 x 4 patches and a CPU: 10 epochs with
# batch 512, one of them warm-up, learning rate 40, which so few steps need. Validated on the split `val`, tested on
# `test`.
#
# Run: python tools/train.py configs/eval/cls_linear_mae_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_mae.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/fashion.py',
]

global_batch_size = 512

model = dict(features=dict(cls='cls'), head=dict(num_classes={{_base_.num_classes}}))

train_dataloader = dict(num_workers=1, dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    num_workers=0, dataset=dict(_base_.val_set, split='val', pipeline=_base_.val_pipeline, test_mode=True)
)
test_dataloader = dict(num_workers=0, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

optim_wrapper = dict(optimizer=dict(lr=40.0))
train_cfg = dict(max_epochs=10)
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
default_hooks = dict(logger=dict(interval=17), checkpoint=dict(interval=170))
log_processor = dict(window_size=17)
