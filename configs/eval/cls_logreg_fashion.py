# Logistic regression on whole images of FashionScenes: the class of the garment from the average of the patch tokens.
# Accuracy. At most 100 iterations of L-BFGS instead of 1000.
# Other features: --cfg-options model.features=cls (predicted, cls+pooled, ...: docs/en/evaluation.md, "Features by
# name").
#
# Run: python tools/test.py configs/eval/cls_logreg_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = ['../_base_/probes/cls_logreg.py', '../_base_/datasets/fitted_fashion.py']

test_cfg = dict(probe=dict(max_iter=100))
