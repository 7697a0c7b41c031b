# CAPI ViT-S/14 (arXiv 2502.08769, table 8, model M8c4d): 12 blocks of width 384, predictor of 6, with its own learning
# rate (2e-3; clustering 1e-3) and momentum (0.998). The paper's model is trained on LVD-142M, which is private; here
# ImageNet-22k. Not run here.
_base_ = './vitl14.py'

model = dict(
    backbone=dict(embed_dim=384, depth=12, num_heads=6),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=384),
            neck=dict(context_dim=384, embed_dim=384, depth=6, num_heads=6),
            head=dict(in_dim=384),
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
default_hooks = dict(target_ema=dict(momentum=dict(base=0.998)))
