# The fourth step of Latent MIM (figure 1): fewer visible patches, apart from each other, and similarity constraints.
# The fifth, configs/latent_mim/small.py, exchanges the decoder for one of as many blocks of cross-attention with visual
# cues, and adds the projector.
_base_ = '../../../configs/latent_mim/small.py'

model = dict(
    backbone=dict(projector_dims=()),
    branches=dict(
        latent=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.SelfAttentionPredictor',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                out_dim=96,
                positions='sincos_stretched',
                grid=(8, 8),
                init='latent_mim',
            )
        )
    ),
)
