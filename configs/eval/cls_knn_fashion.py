# Weighted k-NN of whole images of FashionScenes, the class of the garment: the protocol of cls_knn_imagenet.py at
# 32 px, for a CPU and about a minute.
# Other features: --cfg-options model.features=cls (predicted, cls+pooled, ...: docs/en/evaluation.md, "Features by
# name").
#
# Run: python tools/test.py configs/eval/cls_knn_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = ['../_base_/probes/cls_knn.py', '../_base_/datasets/fitted_fashion.py']
