# MFF ViT-B/16 (arXiv 2308.00261): MAE whose decoder reads states of six blocks of the encoder.
_base_ = './mae_vitb16.py'

model = dict(
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.MultiLevelFusion',
                context_dim=768,
                layers=[0, 2, 4, 6, 8, 11],
                neck={{_base_.model.branches.pixels.neck}},
            )
        )
    )
)
