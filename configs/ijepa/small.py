# I-JEPA on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32 and a quarter of its learning rate.
#
# On a grid of 8 x 8 patches the released masks (targets of 15 to 20 % of the image, more than 10 patches each) do not
# exist: a block of 15 % has 3 x 3 patches. More than 8 are asked for instead: targets have 3 x 3 or 4 x 3 patches, and
# the contexts, what four of them leave of 7 x 7, are cut to 9 to 16 patches in a batch of 128.
_base_ = [
    '../_base_/models/ijepa_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/ijepa.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=96),
            neck=dict(context_dim=96, embed_dim=48, depth=2, num_heads=3, out_dim=96, grid=(8, 8)),
        )
    ),
)

mask_collate = dict(type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.MultiBlockMasking', min_keep=8))
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)
_base_.train_dataloader.dataset.dataset.pipeline[1].update(crop_ratio_range=(0.3, 1.0), interpolation='bilinear')

optim_wrapper = dict(dtype=None, optimizer=dict(lr=2.5e-4))
param_scheduler = dict(lr=dict(schedule=dict(warmup_ratio=0.1)))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
