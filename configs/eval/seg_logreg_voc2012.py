# Logistic regression on the patches of Pascal VOC 2012, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# The majority label of every patch from its features. Of eight penalties, the one with the best mIoU on a held-out
# tenth of the training images.
# At 224 px; 1464 images to fit on, 1449 to test, 21 classes.
#
# The numbers of the paper's table 7, mIoU of features as they are (test_cfg.probe.standardize=False) / standardised:
# CAPI 73.2 / 73.3, of which neither size nor data are named; DINOv2 ViT-g/14 with registers 72.9 / 72.8; I-JEPA
# ViT-H/14 of ImageNet-1k 63.0 / 63.6, of ImageNet-22k 63.6 / 64.2; MAE ViT-L/16 61.5 / 61.5; AIM 600M 61.3 / 67.0 (not
# run here).
#
# Run: python tools/test.py configs/eval/seg_logreg_voc2012.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_logreg_voc2012.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_voc2012_224.py',
]
