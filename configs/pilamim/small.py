# PiLaMIM on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32 and learning rate 4e-3; the rate changes in every
# iteration.
_base_ = [
    '../_base_/models/pilamim_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/pilamim.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

_decoder = dict(context_dim=96, embed_dim=64, depth=2, num_heads=4, grid=(8, 8))
model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        pixels=dict(target_generator=dict(patch_size=4), neck=dict(**_decoder, out_dim=48)),
        latent=dict(target_generator=dict(in_dim=96), neck=dict(**_decoder, out_dim=96)),
    ),
)

mask_collate = dict(type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(epochs=800, warmup_epochs=80))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
