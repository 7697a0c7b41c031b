# Logistic regression on the patches of Cityscapes, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# The majority label of every patch from its features. Of eight penalties, the one with the best mIoU on a held-out
# tenth of the training images.
# At 224 px; 2975 images to fit on, 500 to test, 19 classes.
#
# The numbers of the paper's table 7, mIoU of features as they are (test_cfg.probe.standardize=False) / standardised:
# CAPI 44.7 / 44.3, of which neither size nor data are named; DINOv2 ViT-g/14 with registers 46.8 / 46.8; I-JEPA
# ViT-H/14 of ImageNet-1k 33.5 / 34.5, of ImageNet-22k 32.8 / 34.2; MAE ViT-L/16 38.4 / 38.5; AIM 600M 28.3 / 38.2 (not
# run here).
#
# Run: python tools/test.py configs/eval/seg_logreg_cityscapes.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_logreg_cityscapes.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_cityscapes_224.py',
]
