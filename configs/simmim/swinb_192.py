# SimMIM Swin-B on ImageNet-1k at 192 px (arXiv 2111.09886): 100 epochs of 625 iterations, batch 2048. 22 of the 36
# units of 32 x 32 pixels are masked, the least number that is not below 60 %.
#
# The number of the released code: ImageNet-1k fine-tuning 82.8 (not run here).
#
# Run: tools/dist_train.sh configs/simmim/swinb_192.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/simmim_swinb.py',
    '../_base_/datasets/imagenet_simmim.py',
    '../_base_/schedules/simmim.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

_base_.train_dataloader.dataset.dataset.pipeline[1].scale = 192
train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=32, masking=dict(type='mmmim.UniformMasking', num_visible=14))
)

# 2e-4 per 512 images, from 1e-6 and to 1e-5 per 512; the mask token of Swin does not decay.
optim_wrapper = dict(
    optimizer=dict(lr=8e-4),
    paramwise_cfg=dict(
        rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|relative_position_bias_table$|mask_token$'))
    ),
)
param_scheduler = dict(
    schedule=dict(
        _delete_=True, type='mmmim.truncated_cosine', start=5e-3, final=0.05, warmup_ratio=10 / 100, truncation=1.0
    )
)
train_cfg = dict(max_iters=62_500)
