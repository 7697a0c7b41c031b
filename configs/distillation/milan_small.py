# MILAN on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of milan_vitb16.py at 32 px with a tiny ViT, batch 128, fp32 and learning rate 2e-3. The teacher, whose CLS
# token says what is visible, is the encoder of a PiLaMIM. It is trained first:
#
# python tools/train.py configs/pilamim/small.py --work-dir work_dirs/pilamim_small
_base_ = ['../_base_/models/eva_mae_vitb16.py', '../_base_/datasets/fashion_scenes.py', '../_base_/schedules/mae.py']

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        clip=dict(
            target_generator=dict(
                _delete_=True,
                type='mmmim.FrozenTarget',
                checkpoint='work_dirs/pilamim_small/iter_400.pth',
                in_dim=96,
                masks='importance',
            ),
            neck=dict(
                _delete_=True,
                type='mmmim.PromptingDecoder',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                out_dim=96,
                grid=(8, 8),
                predict_cls=True,
            ),
            head=dict(
                _delete_=True,
                type='mmmim.CombinedHead',
                heads=dict(
                    patches=dict(type='mmmim.RegressionHead', loss='cosine', weight=64 / 65),
                    cls=dict(type='mmmim.RegressionHead', loss='cosine', of='cls', weight=1 / 65),
                ),
            ),
        )
    ),
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.PredictAll', masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75)),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=2e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
