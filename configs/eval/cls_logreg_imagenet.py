# Logistic regression on whole images: the penalties and the solver of CAPI's regression of patches (arXiv 2502.08769,
# appendix, seg_logreg_ade20k.py) on one feature per image, on ImageNet-1k or the data set that MMMIM_DATA names
# (docs/en/dataset_prepare.md#classification). No table of a paper has it on whole images: our choice, for data sets
# whose features are quickly fitted.
#
# Of eight penalties, the one with the best accuracy on a held-out tenth of the training images, fitted again on all.
# Other features: --cfg-options model.features=cls (predicted, cls+pooled, ...: docs/en/evaluation.md, "Features by
# name").
#
# Run: MMMIM_DATA=cifar100 python tools/test.py configs/eval/cls_logreg_imagenet.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/cls_logreg_imagenet.py 8 --pretrained CHECKPOINT
_base_ = ['../_base_/probes/cls_logreg.py', '../_base_/datasets/fitted_images.py']
