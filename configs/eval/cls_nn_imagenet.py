# Nearest neighbour of whole images, Latent MIM's protocol (arXiv 2407.15837, tables 1 to 5 and 10 to 12: "NN"), on
# ImageNet-1k or the data set that MMMIM_DATA names (docs/en/dataset_prepare.md#classification), as imagenet100.
#
# The neighbour of a test image is looked for among the other test images, not in the training set, as in the paper and
# its released code; the score says so, leave_one_out/k_1/accuracy/top1. The feature is the average of the patches
# without the final norm (released code). The code drops incomplete batches; here all images count.
#
# Among the training images: --cfg-options test_cfg.probe.leave_one_out=False, whose score is k_1/accuracy/top1.
# The paper's rows of MAE and data2vec are the better of CLS and average pooling: run it with
# --cfg-options model.features=cls and with model.features=pooled_raw, and take the greater score. Whether its CLS is
# that before the final norm is not stated; here cls is the one after it.
#
# Reported on ImageNet-1k: Latent MIM 50.1, MAE 12.2, data2vec 25.7, MoCo v3 61.3; on ImageNet-100: Latent MIM 63.3, MAE
# 30.0 (not run here). The released code evaluates the online encoder: --weights student.
#
# Run: python tools/test.py configs/eval/cls_nn_imagenet.py --pretrained CHECKPOINT
#  or: MMMIM_DATA=imagenet100 tools/dist_test.sh configs/eval/cls_nn_imagenet.py 8 --pretrained CHECKPOINT
_base_ = ['../_base_/probes/cls_nn.py', '../_base_/datasets/fitted_images.py']
