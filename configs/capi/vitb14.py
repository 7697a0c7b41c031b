# CAPI ViT-B/14 (arXiv 2502.08769, table 8, model Mc2dd): the recipe of ViT-L/14 with 12 blocks of width 768 and a
# predictor of 6. The paper's model is trained on LVD-142M, which is private; here ImageNet-22k. Not run here.
_base_ = './vitl14.py'

model = dict(
    backbone=dict(embed_dim=768, depth=12, num_heads=12),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=768),
            neck=dict(context_dim=768, embed_dim=768, depth=6, num_heads=12),
            head=dict(in_dim=768),
        )
    ),
)
