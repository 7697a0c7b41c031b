# PiLaMIM as the released code trains it, where it differs from the paper: see configs/pilamim/vitb16_released.py.
_base_ = '../../../configs/pilamim/small.py'

model = dict(
    branches=dict(
        pixels=dict(head=dict(nominal_ratio=0.75)),
        latent=dict(target_generator=dict(aligned=False), head=dict(heads=dict(patches=dict(nominal_ratio=0.75)))),
    ),
    teacher_init='own',
)
