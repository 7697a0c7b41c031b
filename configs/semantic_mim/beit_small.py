# SemanticMIM on BEiT, on FashionScenes, for a CPU and a few minutes: the recipe of configs/beit/small.py with 8
# proxies, as in the paper, 25 of the 64 patches visible (60 % masks) and learning rate 1e-3. This writes the
# tokenizer's file in half a minute:
#
# python tools/misc/fit_patch_codebook.py configs/semantic_mim/beit_small.py data/fashion_scenes_codebook.pth
_base_ = '../beit/small.py'

model = dict(
    backbone=dict(num_cls_tokens=8, fused=False, final_norm=False),
    branches=dict(
        _delete_=True,
        semantic=dict(
            target_generator={{_base_.model.branches.tokens.target_generator}},
            neck=dict(
                type='mmmim.ProxyReconstruction',
                context_dim=96,
                depth=4,
                num_heads=3,
                out_dim=512,
                qkv_bias='qv',
                layer_scale=0.1,
                init='trunc_normal_rescaled',
                drop_path_rate=(0.0, 0.1),
            ),
            head={{_base_.model.branches.tokens.head}},
        ),
    ),
)

mask_collate = dict(masking=dict(num_visible=25))
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
