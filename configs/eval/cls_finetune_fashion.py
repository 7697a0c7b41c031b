# The protocol of cls_finetune_mae_vitb16.py on FashionScenes at 32 px, for encoders of 4 x 4 patches and a CPU: 3
# epochs with batch 128, learning rate 2e-3, crops and flips without RandAugment and erasing, fp32.
#
# Run: python tools/train.py configs/eval/cls_finetune_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_finetune.py',
    '../_base_/schedules/cls_finetune.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/fashion.py',
]

global_batch_size = 128

model = dict(data_preprocessor=dict(num_classes={{_base_.num_classes}}), head=dict(num_classes={{_base_.num_classes}}))
optim_wrapper = dict(dtype=None, optimizer=dict(lr=2e-3), paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = dict(schedule=dict(warmup_ratio=1 / 3, final=1e-6 / 2e-3))
train_cfg = dict(max_epochs=3)

train_dataloader = dict(num_workers=1, dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    num_workers=0, dataset=dict(_base_.val_set, split='val', pipeline=_base_.val_pipeline, test_mode=True)
)
test_dataloader = dict(num_workers=0, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

default_hooks = dict(logger=dict(interval=35), checkpoint=dict(interval=210))
log_processor = dict(window_size=35)
