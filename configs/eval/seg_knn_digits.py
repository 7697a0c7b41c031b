# k-NN on the patches of DigitScenes: the protocol of seg_knn_ade20k.py at 32 px, for a CPU and about a minute.
# 1000 images to fit on, 1000 to test, background and ten digits.
#
# Run: python tools/test.py configs/eval/seg_knn_digits.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_digits_fitted.py',
]
