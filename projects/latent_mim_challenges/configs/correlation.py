# The fourth step: fewer visible patches, apart from each other, and similarity constraints.
_base_ = './decoder.py'

model = dict(
    backbone=dict(projector_dims=()),
    branches=dict(
        latent=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.SelfAttentionPredictor',
                context_dim=96,
                embed_dim=64,
                depth=3,
                num_heads=4,
                out_dim=96,
                positions='sincos_stretched',
                grid=(8, 8),
                init='latent_mim',
            )
        )
    ),
)
