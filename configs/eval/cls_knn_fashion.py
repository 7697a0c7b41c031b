# k-NN on whole images of FashionScenes: the class of the garment from the average of the patch tokens; accuracy.
# Other features: --cfg-options model.features=cls (predicted, cls+pooled, ...: docs/en/evaluation.md, "Features by
# name").
#
# Run: python tools/test.py configs/eval/cls_knn_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/cls_fashion_fitted.py',
]

model = dict(features='pooled')
test_cfg = dict(choose_by='aAcc')
test_evaluator = [dict(type='mmpretrain.Accuracy')]
default_hooks = dict(pictures=None)
