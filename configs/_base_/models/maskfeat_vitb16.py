# MaskFeat ViT-B/16 (arXiv 2112.09133) as the baseline of SemanticMIM (arXiv 2406.10673): mask tokens in the place of
# the hidden patches, learned positions (also of CLS), histograms of oriented gradients.
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
        positions='learnable',
        extra_positions=True,
        fused=True,
        init='trunc_normal',
    ),
    branches=dict(
        hog=dict(
            target_generator=dict(type='mmmim.HOGTarget', patch_size=16),
            neck=dict(type='mmmim.PickPredicted', context_dim=768, out_dim=108, init='trunc_normal'),
            head=dict(type='mmmim.RegressionHead'),
        )
    ),
    micro_batch_size=None,
)
