# Proxies for CAPI's targets, ViT-B/14: the clustering, masks and recipe of CAPI (arXiv 2502.08769), with the blocks of
# SemanticMIM (arXiv 2406.10673) in the place of the predictor and 8 proxies in that of the registers. Proxies have
# rotary positions on the border of what is visible, as registers have. A combination of our own: no numbers are
# published. Not run here.
_base_ = '../capi/vitb14.py'

model = dict(
    backbone=dict(num_cls_tokens=8, num_registers=0),
    branches=dict(
        capi=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.ProxyReconstruction',
                context_dim=768,
                depth=12,
                num_heads=12,
                positions='rope',
                norm='rms',
                norm_eps=1e-5,
                final_affine=False,
                bias=False,
                qkv_bias=False,
                init='capi',
                drop_path_rate=0.2,
            )
        )
    ),
    # CAPI's teacher holds the predictor too, for a feature that only CAPI's has.
    teacher=['backbone'],
)
