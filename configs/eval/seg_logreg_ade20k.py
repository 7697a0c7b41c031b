# Logistic regression on the patches of ADE20K, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# The majority label of every patch from its features. Of eight penalties, the one with the best mIoU on a held-out
# tenth of the training images.
# At 224 px; 20 210 images to fit on, 2000 to test, 150 classes.
#
# The numbers of the paper's table 7, mIoU of features as they are (test_cfg.probe.standardize=False) / standardised:
# CAPI 37.9 / 37.7, of which neither size nor data are named; DINOv2 ViT-g/14 with registers 38.9 / 39.0; I-JEPA
# ViT-H/14 of ImageNet-1k 25.2 / 25.7, of ImageNet-22k 24.1 / 26.4; MAE ViT-L/16 27.4 / 27.4; AIM 600M 7.1 / 31.5 (not
# run here).
#
# Run: python tools/test.py configs/eval/seg_logreg_ade20k.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_logreg_ade20k.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_ade20k_224.py',
]
