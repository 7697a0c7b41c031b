# k-NN on the patches of Pascal VOC 2012, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# Every pixel of a patch by the vote of the nearest training patches. Of 1, 3, 10 and 30 neighbours and cosine and L2
# distance, those with the best mIoU on a held-out tenth of the training images.
# At 224 px; 1464 images to fit on, 1449 to test, 21 classes.
#
# The numbers of the paper's table 7, mIoU of features as they are (test_cfg.probe.standardize=False) / standardised:
# CAPI 64.9 / 65.2, of which neither size nor data are named; DINOv2 ViT-g/14 with registers 63.1 / 63.0; I-JEPA
# ViT-H/14 of ImageNet-1k 57.4 / 56.7, of ImageNet-22k 56.2 / 55.0; MAE ViT-L/16 17.3 / 53.7; AIM 600M 38.5 / 60.2 (not
# run here).
#
# Run: python tools/test.py configs/eval/seg_knn_voc2012.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_knn_voc2012.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_voc2012_224.py',
]
