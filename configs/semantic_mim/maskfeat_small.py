# SemanticMIM on MaskFeat, on FashionScenes, for a CPU and a few minutes: the recipe of configs/maskfeat/small.py with 8
# proxies, as in the paper, 25 of the 64 patches visible (60 % masks) and learning rate 1e-3.
_base_ = '../maskfeat/small.py'

model = dict(
    backbone=dict(num_cls_tokens=8, fused=False, final_norm=False),
    branches=dict(
        _delete_=True,
        semantic=dict(
            target_generator={{_base_.model.branches.hog.target_generator}},
            neck=dict(
                type='mmmim.ProxyReconstruction',
                context_dim=96,
                depth=4,
                num_heads=3,
                out_dim=27,
                init='trunc_normal',
            ),
            head={{_base_.model.branches.hog.head}},
        ),
    ),
)

mask_collate = dict(masking=dict(num_visible=25))
train_dataloader = dict(collate_fn=mask_collate)
val_dataloader = dict(collate_fn=mask_collate)
test_dataloader = dict(collate_fn=mask_collate)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
