# Weighted k-NN of whole images, DINO's protocol (arXiv 2104.14294, section 4.1), on ImageNet-1k or the data set that
# MMMIM_DATA names (docs/en/dataset_prepare.md#classification).
#
# Neighbours of a test image are training images, both without augmentation. Of 10, 20, 100 and 200 neighbours each has
# scores of its own, k_10/accuracy/top1, k_10/accuracy/top5, ...: nothing is chosen. DINO finds 20 mostly best.
#
# The feature is the average of the patches after the final norm, which every encoder has. DINO's is the CLS token:
# --cfg-options model.features=cls. CAPI's table 5 (arXiv 2502.08769) compares pooled with predicted, the pooling by the
# predictor; it states no number of neighbours, so compare k_10 and k_20. Reported there for CAPI ViT-L/14 on LVD-142M:
# 57.1 pooled, 73.8 predicted (not run here).
#
# Run: python tools/test.py configs/eval/cls_knn_imagenet.py --pretrained CHECKPOINT
#  or: MMMIM_DATA=cifar100 tools/dist_test.sh configs/eval/cls_knn_imagenet.py 8 --pretrained CHECKPOINT
_base_ = ['../_base_/probes/cls_knn.py', '../_base_/datasets/fitted_images.py']
