# k-NN on the patches of FashionScenes: the protocol of seg_knn_ade20k.py at 32 px, for a CPU and about a minute.
# 1000 images to fit on, 1000 to test, background and ten kinds of garments.
#
# Run: python tools/test.py configs/eval/seg_knn_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_fashion_fitted.py',
]
