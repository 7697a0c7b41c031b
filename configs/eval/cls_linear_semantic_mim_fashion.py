# The protocol of cls_linear_semantic_mim.py on FashionScenes at 32 px, for encoders of 4 x 4 patches and a CPU: the
# third block, 5 epochs with batch 256, learning rate 1e-2.
#
# Run: python tools/train.py configs/eval/cls_linear_semantic_mim_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_adamw.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/fashion.py',
]

global_batch_size = 256

model = dict(
    backbone=dict(out_indices=[2]),
    features=dict(patch='pooled_probe', cls='cls_probe'),
    head=dict(batch_norm=False, std=0.02, num_classes={{_base_.num_classes}}),
)

train_dataloader = dict(num_workers=1, dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    num_workers=0, dataset=dict(_base_.val_set, split='val', pipeline=_base_.val_pipeline, test_mode=True)
)
test_dataloader = dict(num_workers=0, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

optim_wrapper = dict(optimizer=dict(lr=1e-2))
train_cfg = dict(max_epochs=5)
default_hooks = dict(logger=dict(interval=35), checkpoint=dict(interval=175))
log_processor = dict(window_size=35)
