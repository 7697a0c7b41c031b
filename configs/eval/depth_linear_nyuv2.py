# Depth of NYUv2 by linear regression on frozen patches: our protocol, of no paper. Of several penalties
# that with the smallest error on the patches of a held-out tenth of the training images.
#
# A patch has the mean of its known depths; what is predicted for the patches is interpolated bilinearly to the size of
# the depth map and scored inside the crop of Eigen et al. (2014), depths up to 10 m: rmse (m), abs_rel, delta1 to
# delta3 (%), means over images. Linear probes of papers that classify bins of depths and are trained by steps (DINOv2)
# are others: their numbers cannot be compared.
#
# Run: python tools/test.py configs/eval/depth_linear_nyuv2.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/ridge.py',
    '../_base_/datasets/depth_nyuv2.py',
]

test_evaluator = [dict(type='mmmim.DepthScores', low=1e-3, high=10.0, crop='eigen')]
