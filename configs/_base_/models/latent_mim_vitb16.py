# Latent MIM ViT-B/16 (arXiv 2407.15837, appendix A.2): projector of two hidden layers of 4096, decoder of 3 blocks of
# width 512 with visual cues, patch discrimination with similarity constraints.
model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        positions='sincos_stretched',
        projector_dims=(4096, 4096),
        init='latent_mim',
    ),
    branches=dict(
        latent=dict(
            target_generator=dict(type='mmmim.LatentTarget', in_dim=768, sees='predicted'),
            neck=dict(
                type='mmmim.CrossAttentionDecoder',
                context_dim=768,
                embed_dim=512,
                depth=3,
                num_heads=16,
                visual_cues=True,
                grid=(14, 14),
            ),
            head=dict(
                type='mmmim.CombinedHead',
                heads=dict(
                    discrimination=dict(type='mmmim.PatchDiscriminationHead', temperature=0.2),
                    similarity=dict(type='mmmim.SimilarityConstraint', weight=0.1),
                ),
            ),
        )
    ),
    teacher=['backbone'],
    micro_batch_size=256,
)
