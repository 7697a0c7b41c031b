# SemanticMIM on BEiT, ViT-B/16 (arXiv 2406.10673, section 3.3): the encoder sees 8 proxies and the visible patches, and
# each of its blocks has one beside it in which mask tokens attend to the proxies.
_base_ = './beit_vitb16.py'

model = dict(
    backbone=dict(num_cls_tokens=8, fused=False, final_norm=False),
    branches=dict(
        _delete_=True,
        semantic=dict(
            target_generator={{_base_.model.branches.tokens.target_generator}},
            neck=dict(
                type='mmmim.ProxyReconstruction',
                context_dim=768,
                depth=12,
                num_heads=12,
                out_dim=8192,
                qkv_bias='qv',
                layer_scale=0.1,
                init='trunc_normal_rescaled',
                drop_path_rate=(0.0, 0.1),
            ),
            head={{_base_.model.branches.tokens.head}},
        ),
    ),
)
