# The protocol of cls_sweep.py on FashionScenes at 32 px, for encoders of 4 x 4 patches with a CLS token and a CPU: 300
# iterations with batch 128, heads of attention of 32 channels.
#
# Run: python tools/train.py configs/eval/cls_sweep_fashion.py --pretrained CHECKPOINT
# Test: python tools/test.py configs/eval/cls_sweep_fashion.py work_dirs/cls_sweep_fashion/iter_300.pth
_base_ = [
    '../_base_/models/cls_sweep.py',
    '../_base_/schedules/cls_sweep.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/fashion.py',
]

global_batch_size = 128

model = dict(
    features=dict(cls='cls', avg_patch='pooled', cls_avg_patch='cls+pooled', patch='patches'),
    head=dict(head_dim=32, num_classes={{_base_.num_classes}}),
)

train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        dataset=dict(
            type='mmmim.Split',
            part='train',
            share=0.9,
            seed=42,
            dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline),
        )
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        type='mmmim.Split',
        part='val',
        share=0.9,
        seed=42,
        dataset=dict(**_base_.train_set, pipeline=_base_.val_pipeline, test_mode=True),
    ),
)
test_dataloader = dict(num_workers=0, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

optim_wrapper = dict(optimizer=dict(lr=128 / 256))
train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=150))
log_processor = dict(window_size=25)
