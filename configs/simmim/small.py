# SimMIM on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32 and learning rate 1e-3; 10 of the 16 units of 2 x 2
# patches are masked.
_base_ = [
    '../_base_/models/simmim_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/simmim.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(pixels=dict(target_generator=dict(patch_size=4), neck=dict(context_dim=96, out_dim=48))),
)

mask_collate = dict(
    type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.6, unit=2)
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=1e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
