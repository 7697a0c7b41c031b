# Surface normals of NYUv2 by linear regression on frozen patches: our protocol, of no paper. Of several
# penalties, that with the smallest mean angle on the patches of a held-out tenth of the
# training images.
#
# A patch has the mean of its known normals; what is predicted for the patches is interpolated bilinearly to the size of
# the map and scored inside the crop of Eigen et al. (2014): mean and median angle (degrees), percentages below 11.25,
# 22.5 and 30 degrees, over all pixels. Normals are computed from the depths of the sensor, which are coarse: numbers of
# papers with other ground truth (Ladicky et al. 2014) cannot be compared.
#
# Run: python tools/test.py configs/eval/normals_linear_nyuv2.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/ridge.py',
    '../_base_/datasets/normals_nyuv2.py',
]

test_cfg = dict(choose_by='angle')
test_evaluator = [dict(type='mmmim.NormalScores', crop='eigen')]
