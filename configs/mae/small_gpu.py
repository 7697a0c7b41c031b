# MAE ViT-S/4 on the second subset of FashionScenes: one to five garments at 64 px. For one GPU: iterations are set
# for about eight minutes there, a guess. Not run here.
_base_ = [
    '../_base_/models/mae_vitb16.py',
    '../_base_/datasets/fashion_scenes_multi.py',
    '../_base_/schedules/mae.py',
]

global_batch_size = 256
auto_scale_lr = dict(base_batch_size=256)

model = dict(
    backbone=dict(img_size=64, patch_size=4, embed_dim=384, depth=12, num_heads=6),
    branches=dict(
        pixels=dict(
            target_generator=dict(patch_size=4),
            neck=dict(context_dim=384, embed_dim=192, depth=4, num_heads=6, out_dim=48, grid=(16, 16)),
        )
    ),
)

mask_collate = dict(type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
train_dataloader = dict(num_workers=12, collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.05))
train_cfg = dict(max_iters=8000, val_interval=4000)
default_hooks = dict(
    checkpoint=dict(interval=4000, max_keep_ckpts=1),
    probe=dict(interval=2000, linear=('pooled', 'cls', 'predicted')),
)
