# data2vec ViT-B/16 (arXiv 2202.03555): BEiT's encoder with relative positions that all blocks share and none that are
# added; the mean of the last six blocks of the EMA of the encoder as target, each layer-normed, the mean again; smooth
# L1. Where the released code differs from the paper, it is followed (stochastic depth, second norm).
_base_ = './beit_vitb16.py'

model = dict(
    backbone=dict(
        positions='relative_shared',
        extra_positions=False,
        layer_scale=1e-4,
        init='beit',
        drop_path_rate=(0.0, 0.25),
        attn_drop_rate=0.05,
    ),
    branches=dict(
        _delete_=True,
        latent=dict(
            target_generator=dict(
                type='mmmim.LatentTarget',
                in_dim=768,
                layers=(6, 7, 8, 9, 10, 11),
                normalize_layers='layer',
                normalize='layer',
            ),
            neck=dict(type='mmmim.PickPredicted', context_dim=768, out_dim=768, init='beit'),
            head=dict(type='mmmim.RegressionHead', loss='smooth_l1', beta=2.0),
        ),
    ),
    teacher=['backbone'],
)
