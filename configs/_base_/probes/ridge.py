# Linear regression of values of patches, such as depths, in closed form; the penalty is chosen on held-out images.
# Features as in fitted.py.
_base_ = './fitted.py'

test_cfg = dict(
    choose_by='rmse',
    probe=dict(type='mmmim.RidgeProbe', alpha=[10.0**i for i in range(-6, 3)], standardize='once'),
)
default_hooks = dict(pictures=dict(type='mmmim.MapPicturesHook'))
