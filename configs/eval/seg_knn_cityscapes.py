# k-NN on the patches of Cityscapes, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# Every pixel of a patch by the vote of the nearest training patches. Of 1, 3, 10 and 30 neighbours and cosine and L2
# distance, those with the best mIoU on a held-out tenth of the training images.
# At 224 px; 2975 images to fit on, 500 to test, 19 classes.
#
# The numbers of the paper's table 7, mIoU of features as they are (test_cfg.probe.standardize=False) / standardised:
# CAPI 39.2 / 39.2, of which neither size nor data are named; DINOv2 ViT-g/14 with registers 42.0 / 42.0; I-JEPA
# ViT-H/14 of ImageNet-1k 25.9 / 26.4, of ImageNet-22k 22.9 / 23.2; MAE ViT-L/16 25.3 / 32.8; AIM 600M 27.8 / 32.1 (not
# run here).
#
# Run: python tools/test.py configs/eval/seg_knn_cityscapes.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_knn_cityscapes.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_cityscapes_224.py',
]
