# PiLaMIM ViT-B/16 (Lee et al., 2025, appendix A.4): one encoder and two decoders of 6 blocks of width 384, for pixels
# (not normalised per patch) and for the latents of the teacher, CLS among them. What the paper does not say is that of
# the released code: learned positions (none for CLS in the encoder), no biases of queries, keys and values, no norm at
# the end of a decoder, PyTorch's default initialisation.
_decoder = dict(
    type='mmmim.SelfAttentionPredictor',
    context_dim=768,
    embed_dim=384,
    depth=6,
    num_heads=12,
    out_dim=768,
    positions='learnable',
    grid=(14, 14),
    num_extra_positions=1,
    norm_eps=1e-5,
    final_norm=False,
    qkv_bias=False,
    init='torch',
)
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
        norm_eps=1e-5,
        qkv_bias=False,
        init='torch',
    ),
    branches=dict(
        pixels=dict(
            target_generator=dict(type='mmmim.PixelTarget', patch_size=16, normalize=False),
            neck=dict(**_decoder),
            head=dict(type='mmmim.RegressionHead'),
        ),
        latent=dict(
            target_generator=dict(type='mmmim.LatentTarget', in_dim=768),
            neck=dict(**_decoder, predict_cls=True),
            head=dict(
                type='mmmim.CombinedHead',
                heads=dict(
                    patches=dict(type='mmmim.RegressionHead'),
                    cls=dict(type='mmmim.RegressionHead', of='cls'),
                ),
            ),
        ),
    ),
    teacher=['backbone'],
    micro_batch_size=None,
)
