# CAPI ViT-L/14 (arXiv 2502.08769, tables 6 and 8).
model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(
        type='mmmim.ViT',
        img_size=224,
        patch_size=14,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        num_cls_tokens=0,
        num_registers=16,
        positions='rope',
        norm='rms',
        norm_eps=1e-5,
        final_affine=False,
        bias=False,
        qkv_bias=False,
        init='capi',
        drop_path_rate=0.2,
    ),
    branches=dict(
        capi=dict(
            target_generator=dict(
                type='mmmim.OnlineClustering',
                in_dim=1024,
                num_prototypes=16384,
                positional=True,
                target_temperature=0.06,
                temperature=0.12,
                iterations=3,
                chunk_positions=8,
            ),
            neck=dict(
                type='mmmim.CrossAttentionPredictor',
                context_dim=1024,
                embed_dim=1024,
                depth=12,
                num_heads=16,
                drop_path_rate=0.2,
            ),
            head=dict(type='mmmim.PrototypeHead', in_dim=1024, num_prototypes=16384, temperature=0.12),
        )
    ),
    teacher=['backbone', 'branches.capi.neck', 'branches.capi.head'],
    micro_batch_size=128,
)
