# Values of patches, such as depths, as the mean of those of the nearest training patches. Features as in fitted.py.
_base_ = './fitted.py'

test_cfg = dict(
    choose_by='rmse',
    probe=dict(type='mmmim.KNNRegressionProbe', k=[1, 3, 10, 30], distance=['cosine', 'l2'], standardize='once'),
)
default_hooks = dict(pictures=dict(type='mmmim.MapPicturesHook'))
