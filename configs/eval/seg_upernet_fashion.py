# The protocol of seg_upernet_ade20k.py on FashionScenes, for encoders of 4 x 4 patches at 32 px and a CPU: 300
# iterations with batch 32, learning rate 1e-3, narrow heads, fp32. The maps of the pyramid are at strides 1, 2, 4 and
# 8.
#
# Run: python tools/train.py configs/eval/seg_upernet_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/seg_upernet.py',
    '../_base_/datasets/seg_fashion.py',
    '../_base_/schedules/seg_upernet.py',
]

global_batch_size = 32

model = dict(
    data_preprocessor=dict(size=(32, 32), seg_pad_val={{_base_.ignore_index}}),
    backbone=dict(stride=None),
    # Not SyncBN, which needs GPUs.
    neck=dict(norm_cfg=dict(type='mmseg.BN')),
    decode_head=dict(
        channels=32,
        num_classes={{_base_.num_classes}},
        ignore_index={{_base_.ignore_index}},
        norm_cfg=dict(type='mmseg.BN'),
    ),
    auxiliary_head=dict(
        channels=32,
        num_classes={{_base_.num_classes}},
        ignore_index={{_base_.ignore_index}},
        norm_cfg=dict(type='mmseg.BN'),
    ),
    test_cfg=dict(mode='whole'),
)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=1e-3))
param_scheduler = dict(warmup=dict(end=30), decay=dict(begin=30))
train_cfg = dict(max_iters=300, val_interval=150)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=150))
log_processor = dict(window_size=25)
