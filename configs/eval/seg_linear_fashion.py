# Linear segmentation of FashionScenes, the protocol of seg_linear_ade20k.py at 32 px and for a CPU: 500 iterations with
# batch 64, learning rate 1e-2.
#
# Run: python tools/train.py configs/eval/seg_linear_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/seg_linear.py',
    '../_base_/datasets/seg_fashion.py',
    '../_base_/schedules/seg_linear.py',
]

global_batch_size = 64

model = dict(
    data_preprocessor=dict(size=(32, 32), seg_pad_val={{_base_.ignore_index}}),
    # Not SyncBN, which needs GPUs.
    neck=dict(norm_cfg=dict(type='mmseg.BN')),
    decode_head=dict(num_classes={{_base_.num_classes}}, ignore_index={{_base_.ignore_index}}),
    test_cfg=dict(mode='whole'),
)

optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = dict(warmup=dict(end=50), decay=dict(begin=50))
train_cfg = dict(max_iters=500, val_interval=250)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
log_processor = dict(window_size=25)
