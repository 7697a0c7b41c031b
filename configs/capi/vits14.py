# CAPI ViT-S/14 (arXiv 2502.08769, table 8, model M8c4d): 12 blocks of width 384, predictor of 6, with its own learning
# rate (2e-3; clustering 1e-3) and momentum (0.998). The paper's model is trained on LVD-142M, which is private; here
# ImageNet-22k. Not run here.
_base_ = './vitl14.py'

embed_dim = 384
predictor_dim = 384
num_heads = 6

model = dict(
    backbone=dict(embed_dim=embed_dim, depth=12, num_heads=num_heads),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=embed_dim),
            neck=dict(context_dim=embed_dim, embed_dim=predictor_dim, depth=6, num_heads=num_heads),
            head=dict(in_dim=predictor_dim),
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
default_hooks = dict(target_ema=dict(momentum=dict(base=0.998)))
