# CAPI on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitl14.py at 32 px with a tiny ViT: 64 prototypes, half of the masked patches predicted, crops of a
# fifth to three fifths of an image, batch 64, fp32, learning rate 3e-3, momentum from 0.95, no drop path.
# projects/fashion_scenes says what was tried.
_base_ = [
    '../_base_/models/capi_vitl14.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/capi.py',
]

global_batch_size = 64
auto_scale_lr = dict(base_batch_size=64)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3, num_registers=4, drop_path_rate=0.0),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=96, num_prototypes=64, chunk_positions=None),
            neck=dict(context_dim=96, embed_dim=96, depth=2, num_heads=3, drop_path_rate=0.0),
            head=dict(in_dim=96, num_prototypes=64),
        )
    ),
    micro_batch_size=None,
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.5, roll=True),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)
_base_.train_dataloader.dataset.dataset.pipeline[1].update(crop_ratio_range=(0.2, 0.6))

optim_wrapper = dict(dtype=None, optimizer=dict(lr=3e-3))
train_cfg = dict(max_iters=1200, val_interval=600)
default_hooks = dict(
    _base_.short.default_hooks,
    checkpoint=dict(interval=600, max_keep_ckpts=1),
    health=dict(interval=100),
    probe=dict(interval=400),
    target_ema=dict(momentum=dict(base=0.95)),
)
log_processor = _base_.short.log_processor
