# Nearest neighbour of whole images of FashionScenes, the class of the garment: the protocol of cls_nn_imagenet.py at
# 32 px, among the other images of the test split, for a CPU and some seconds.
#
# Run: python tools/test.py configs/eval/cls_nn_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = ['../_base_/probes/cls_nn.py', '../_base_/datasets/fitted_fashion.py']
