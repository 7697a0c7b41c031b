# data2vec 2.0 on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32, learning rate 4e-3 and 4 masks of every image, each
# of which leaves 13 of the 64 patches visible; three of four blocks are the target, the decoder has three convolutions.
# What is made for 375300 steps goes faster here: momentum from 0.99 to 0.999.
_base_ = [
    '../_base_/models/data2vec2_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/data2vec2.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=96, layers=(1, 2, 3)),
            neck=dict(context_dim=96, embed_dim=96, depth=3, out_dim=96),
            head=dict(heads=dict(patches=dict(weight=96**0.5), cls=dict(weight=0.01 * 256 * 96**0.5))),
        )
    ),
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.InverseBlocksMasking', num_visible=13, num_blocks=2, masks_per_image=4),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = dict(
    **_base_.short.default_hooks,
    target_ema=dict(momentum=dict(start=0.99, base=0.999, final=0.999, warmup_ratio=0.3)),
)
log_processor = _base_.short.log_processor
