# Logistic regression on the patches of Cityscapes, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# The majority label of every patch from its features. Of eight penalties, the one with the best mIoU on a held-out
# tenth of the training images.
# At 224 px; 2975 images to fit on, 500 to test, 19 classes.
#
# The paper's mIoU of CAPI with standardised features: 44.3 (not run here; its table 7 names neither the size of the
# model nor the data of its pre-training).
#
# Run: python tools/test.py configs/eval/seg_logreg_cityscapes.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_logreg_cityscapes.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_cityscapes_224.py',
]
