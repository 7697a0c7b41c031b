# k-NN on whole images of DigitScenes: the class of the digit from the average of the patch tokens; accuracy.
# Other features: --cfg-options model.features=cls (or max, top10, all, ...: Features.pool).
#
# Run: python tools/test.py configs/eval/cls_knn_digits.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/cls_digits_fitted.py',
]

model = dict(features='pooled')
test_cfg = dict(choose_by='aAcc')
test_evaluator = [dict(type='mmpretrain.Accuracy')]
default_hooks = dict(pictures=None)
