# BEiT ViT-B/16 (arXiv 2106.08254) as the baseline of SemanticMIM (arXiv 2406.10673): mask tokens in the place of the
# hidden patches, learned positions (also of CLS) and no relative position bias, layer scale, tokens of DALL-E.
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
        qkv_bias='qv',
        layer_scale=0.1,
        init='trunc_normal_rescaled',
        drop_path_rate=(0.0, 0.1),
    ),
    branches=dict(
        tokens=dict(
            target_generator=dict(
                type='mmmim.TokenizerTarget',
                # The file dalle_encoder.pth that OpenMMLab publishes with its BEiT configs.
                tokenizer=dict(type='mmmim.DalleTokenizer', weights='checkpoints/dalle_encoder.pth', num_tokens=8192),
                patch_size=16,
            ),
            neck=dict(type='mmmim.PickPredicted', context_dim=768, out_dim=8192, init='trunc_normal'),
            head=dict(type='mmmim.CrossEntropyHead'),
        )
    ),
    micro_batch_size=None,
)
