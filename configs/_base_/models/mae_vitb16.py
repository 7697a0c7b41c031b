# MAE ViT-B/16 (arXiv 2111.06377): decoder of 8 blocks of width 512, normalised pixels.
model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12),
    branches=dict(
        pixels=dict(
            target_generator=dict(type='mmmim.PixelTarget', patch_size=16, normalize=True),
            neck=dict(
                type='mmmim.SelfAttentionPredictor',
                context_dim=768,
                embed_dim=512,
                depth=8,
                num_heads=16,
                out_dim=768,
                grid=(14, 14),
            ),
            head=dict(type='mmmim.RegressionHead'),
        )
    ),
    micro_batch_size=None,
)
