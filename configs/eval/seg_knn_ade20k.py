# k-NN on the patches of ADE20K, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# Every pixel of a patch by the vote of the nearest training patches. Of 1, 3, 10 and 30 neighbours and cosine and L2
# distance, those with the best mIoU on a held-out tenth of the training images.
# At 224 px; 20 210 images to fit on, 2000 to test, 150 classes.
#
# The numbers of the released page, mIoU of CAPI ViT-L/14: 32.1 pre-trained on LVD-142M, 29.7 on ImageNet-22k, 29.2 on
# ImageNet-1k, 35.2 on Places205. The numbers of the paper's table 7, mIoU of features as they are
# (test_cfg.probe.standardize=False) / standardised: CAPI 32.5 / 33.0, of which neither size nor data are named; DINOv2
# ViT-g/14 with registers 33.8 / 34.0; I-JEPA ViT-H/14 of ImageNet-1k 20.1 / 20.8, of ImageNet-22k 17.9 / 18.9; MAE
# ViT-L/16 7.8 / 21.5; AIM 600M 14.3 / nan (not run here).
#
# Run: python tools/test.py configs/eval/seg_knn_ade20k.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_knn_ade20k.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_ade20k_224.py',
]
