# data2vec on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32, learning rate 4e-3 and no jitter; 39 of the 64
# patches are masked, and the last two of four blocks are the target. What is made for half a million steps starts
# nearer to where it goes: layer scale 0.1, momentum 0.98.
_base_ = [
    '../_base_/models/data2vec_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/data2vec.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(
        img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3, layer_scale=0.1, drop_path_rate=(0.0, 0.1)
    ),
    branches=dict(
        latent=dict(target_generator=dict(in_dim=96, layers=(2, 3)), neck=dict(context_dim=96, out_dim=96)),
    ),
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.BEiTMasking', num_visible=25, min_block=5, whole_grid=True),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = dict(**_base_.short.default_hooks, target_ema=dict(momentum=dict(value=0.98)))
log_processor = _base_.short.log_processor
