# I-JEPA ViT-L/16 on ImageNet-1k (arXiv 2301.08243, appendix A): the recipe of vitb16.py with a predictor of 12 blocks.
#
# The paper's numbers: ImageNet-1k linear probing 77.5, fine-tuning with 1 % of the labels 69.4 (not run here).
_base_ = './vitb16.py'

model = dict(
    backbone=dict(embed_dim=1024, depth=24, num_heads=16),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=1024),
            neck=dict(context_dim=1024, depth=12, num_heads=16, out_dim=1024),
        )
    ),
)
