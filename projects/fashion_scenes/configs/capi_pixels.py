# A cross of CAPI and PiLaMIM: the same encoder also gives a decoder what it needs to paint the predicted patches, as
# normalised pixels.
_base_ = '../../../configs/capi/small.py'

model = dict(
    branches=dict(
        pixels=dict(
            target_generator=dict(type='mmmim.PixelTarget', patch_size=4, normalize=True),
            neck=dict(
                type='mmmim.SelfAttentionPredictor',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                out_dim=48,
                grid=(8, 8),
            ),
            head=dict(type='mmmim.RegressionHead'),
        )
    )
)
