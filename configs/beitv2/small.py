# BEiT v2 on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# The recipe of vitb16.py at 32 px with a tiny ViT, batch 128, fp32, learning rate 4e-3 and no jitter; 25 of the 64
# patches are masked, and CLS meets the patches of the third of four blocks. The tokenizer is no network but k-means of
# patches; this writes its file in half a minute:
#
# python tools/misc/fit_patch_codebook.py configs/beitv2/small.py data/fashion_scenes_codebook.pth
_base_ = [
    '../_base_/models/beitv2_vitb16.py',
    '../_base_/datasets/fashion_scenes.py',
    '../_base_/schedules/beitv2.py',
]

global_batch_size = 128
auto_scale_lr = dict(base_batch_size=128)

model = dict(
    backbone=dict(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    branches=dict(
        tokens=dict(
            target_generator=dict(
                tokenizer=dict(
                    _delete_=True,
                    type='mmmim.KMeansTokenizer',
                    codebook='data/fashion_scenes_codebook.pth',
                    num_tokens=512,
                    patch_size=4,
                ),
                patch_size=4,
            ),
            neck=dict(context_dim=96, out_dim=512, early_layer=2, num_heads=3),
        )
    ),
)

mask_collate = dict(
    type='mmmim.MaskCollate',
    patch_size=4,
    masking=dict(type='mmmim.BEiTMasking', num_visible=39, min_block=5, whole_grid=True),
)
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=4e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
train_cfg = _base_.short.train_cfg
default_hooks = _base_.short.default_hooks
log_processor = _base_.short.log_processor
