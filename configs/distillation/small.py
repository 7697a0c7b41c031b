# A frozen teacher on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The tiny ViT of ../mae/small.py predicts what the EMA teacher of a CAPI makes of the hidden patches: cosine loss, mask
# tokens in the encoder, 38 of the 64 patches visible, batch 128, fp32, learning rate 4e-3. First train the teacher:
#
# python tools/train.py configs/capi/small.py --work-dir work_dirs/capi_small
#
# Another one, of any library: --cfg-options model.branches.teacher.target_generator.checkpoint=FILE, with in_dim and
# the neck's out_dim of its width.
_base_ = [
    '../_base_/models/beit_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/beit.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        _delete_=True,
        teacher=dict(
            target_generator=dict(
                type='mmmim.FrozenTarget', checkpoint='work_dirs/capi_small/iter_1200.pth', in_dim=96
            ),
            neck=dict(type='mmmim.PickPredicted', context_dim=96, out_dim=96, init='trunc_normal'),
            head=dict(type='mmmim.RegressionHead', loss='cosine'),
        ),
    ),
)

mask_collate = dict(type='mmmim.MaskCollate', patch_size=4, masking=dict(type='mmmim.UniformMasking', num_visible=38))
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
