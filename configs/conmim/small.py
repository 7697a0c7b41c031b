# ConMIM on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT and projector, batch 128, fp32 and learning rate 4e-3; 12 of the 16
# units of 2 x 2 patches are masked. What is made for half a million steps starts nearer to where it goes: momentum
# 0.99.
_base_ = [
    '../_base_/models/conmim_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/pipelines/second_view.py',
    '../_base_/schedules/conmim.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        patches=dict(target_generator=dict(out_dim=64), neck=dict(context_dim=96, hidden_dim=384, out_dim=64)),
    ),
)

mask_collate = dict(
    type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75, unit=2)
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)
_base_.train_dataloader.dataset.dataset.pipeline.insert(3, _base_.second_view)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = dict(**_base_.short.default_hooks, target_ema=dict(momentum=dict(start=0.99)))
log_processor = _base_.short.log_processor
