# Logistic regression on the patches of FashionScenes: the protocol of seg_logreg_ade20k.py at 32 px, for a CPU and
# about a minute: at most 100 iterations of L-BFGS instead of 1000. 1000 images to fit on, 1000 to test, background and
# ten kinds of garments.
#
# Run: python tools/test.py configs/eval/seg_logreg_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_fashion_fitted.py',
]

test_cfg = dict(probe=dict(max_iter=100))
