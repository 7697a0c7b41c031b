# I-JEPA ViT-B/16 (arXiv 2301.08243, appendix A): no CLS, predictor of 6 blocks of width 384 with the heads of the
# encoder, the layer-normed output of the EMA of the encoder as target, smooth L1 (the paper: squared error,
# `loss='mse'`).
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
        num_cls_tokens=0,
        init='trunc_normal',
    ),
    branches=dict(
        latent=dict(
            target_generator=dict(type='mmmim.LatentTarget', in_dim=768, normalize='layer'),
            neck=dict(
                type='mmmim.SelfAttentionPredictor',
                context_dim=768,
                embed_dim=384,
                depth=6,
                num_heads=12,
                out_dim=768,
                grid=(14, 14),
                init='trunc_normal',
            ),
            head=dict(type='mmmim.RegressionHead', loss='huber'),
        )
    ),
    teacher=['backbone'],
    micro_batch_size=None,
)
