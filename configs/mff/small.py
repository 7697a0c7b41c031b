# MFF on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# That of MAE (../mae/small.py), whose decoder reads states of three of the four blocks.
_base_ = '../mae/small.py'

model = dict(
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.MultiLevelFusion',
                context_dim=96,
                layers=[0, 2, 3],
                neck={{_base_.model.branches.pixels.neck}},
            )
        )
    )
)
