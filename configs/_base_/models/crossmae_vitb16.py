# CrossMAE ViT-B/16 (arXiv 2401.14391): no final norm in the encoder, and a decoder of 12 blocks of width 512, each of
# which reads a mixture of all states of the encoder.
_base_ = './mae_vitb16.py'

model = dict(
    backbone=dict(final_norm=False),
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.InterBlockDecoder',
                context_dim=768,
                embed_dim=512,
                depth=12,
                num_heads=16,
                out_dim=768,
                layers=list(range(12)),
                grid=(14, 14),
            )
        )
    ),
)
