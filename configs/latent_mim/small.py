# Latent MIM on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py with a tiny ViT: images of 40 px in cells of 5 px with a patch of 4 px in each, 8 of the 64
# patches visible, batch 128, fp32, learning rate 1e-3.
_base_ = [
    '../_base_/models/latent_mim_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/latent_mim.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3, projector_dims=(384, 384)),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=96),
            neck=dict(context_dim=96, embed_dim=64, depth=2, num_heads=4, grid=(8, 8)),
        )
    ),
    micro_batch_size=None,
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    gap=1,
    inclusive_gap=True,
    masking=dict(type='mmmim.UniformMasking', num_visible=8),
)
pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(
        type='mmmim.RandomResizedCrop',
        scale=40,
        crop_ratio_range=(0.6, 1.0),
        interpolation='bicubic',
    ),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
whole = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmpretrain.Resize', scale=40, interpolation='bicubic', backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(collate_fn=mask_collate, dataset=dict(dataset=dict(pipeline=pipeline)))
val_dataloader = dict(collate_fn=mask_collate, dataset=dict(dataset=dict(pipeline=whole)))
test_dataloader = dict(collate_fn=mask_collate, dataset=dict(dataset=dict(pipeline=whole)))

optim_wrapper = dict(dtype=None, optimizer=dict(lr=1e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
