# CAPI on DigitScenes: real photographs and scanned digits, made on first use, no download. For a CPU and a few minutes.
# The recipe of vitl14.py at 32 px with a tiny ViT, batch 128, fp32, learning rate 4e-3, momentum from 0.99, a fifth of
# the masked patches predicted, no drop path and no flips.
_base_ = [
    '../_base_/models/capi_vitl14.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/capi.py',
]

global_batch_size = 128

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3, num_registers=4, drop_path_rate=0.0),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=96, num_prototypes=512, chunk_positions=None),
            neck=dict(context_dim=96, embed_dim=96, depth=2, num_heads=3, drop_path_rate=0.0),
            head=dict(in_dim=96, num_prototypes=512),
        )
    ),
    micro_batch_size=None,
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.2, roll=True),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
train_cfg = _base_.short.train_cfg
default_hooks = dict(_base_.short.default_hooks, target_ema=dict(momentum=dict(base=0.99)))
log_processor = _base_.short.log_processor
