# Logistic regression on the patches of Pascal VOC 2012, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# The majority label of every patch from its features. Of eight penalties, the one with the best mIoU on a held-out
# tenth of the training images.
# At 224 px; 1464 images to fit on, 1449 to test, 21 classes.
#
# The paper's mIoU of CAPI with standardised features: 73.3 (not run here; its table 7 names neither the size of the
# model nor the data of its pre-training).
#
# Run: python tools/test.py configs/eval/seg_logreg_voc2012.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_logreg_voc2012.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/logreg.py',
    '../_base_/datasets/seg_voc2012_224.py',
]
