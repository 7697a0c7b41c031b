# PixMIM on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes.
# That of MAE (../mae/small.py) with targets without high frequencies: of 32 pixels, 6 cycles and less stay.
_base_ = '../mae/small.py'

model = dict(branches=dict(pixels=dict(target_generator=dict(low_pass=6))))
