# CAPI ViT-S/4 on the second subset of FashionScenes: one to five garments at 64 px. For one GPU: iterations are set
# for about eight minutes there, a guess. Not run here.
_base_ = [
    '../_base_/models/capi_vitl14.py',
    '../_base_/datasets/fashion_scenes_multi.py',
    '../_base_/schedules/capi.py',
]

global_batch_size = 512
auto_scale_lr = dict(base_batch_size=512)

model = dict(
    backbone=dict(img_size=64, patch_size=4, embed_dim=384, depth=12, num_heads=6, num_registers=4, drop_path_rate=0.0),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=384, num_prototypes=1024, chunk_positions=None),
            neck=dict(context_dim=384, embed_dim=384, depth=6, num_heads=6, drop_path_rate=0.0),
            head=dict(in_dim=384, num_prototypes=1024),
        )
    ),
    micro_batch_size=None,
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.1, roll=True),
)
train_dataloader = dict(num_workers=12, collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

train_cfg = dict(max_iters=4000, val_interval=2000)
default_hooks = dict(
    checkpoint=dict(interval=2000, max_keep_ckpts=1),
    probe=dict(interval=1000, linear=('pooled', 'cls', 'predicted')),
    target_ema=dict(momentum=dict(base=0.995)),
)
