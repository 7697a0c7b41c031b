# k-NN as CAPI evaluates (arXiv 2502.08769, table 3 and appendix): each pixel of a patch by the vote of the same pixel
# of the nearest training patches.
_base_ = './fitted.py'

test_cfg = dict(
    probe=dict(type='mmmim.KNNProbe', k=[1, 3, 10, 30], distance=['cosine', 'l2'], standardize='once'),
)
