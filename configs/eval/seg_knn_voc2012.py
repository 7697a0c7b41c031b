# k-NN on the patches of Pascal VOC 2012, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# Every pixel of a patch by the vote of the nearest training patches. Of 1, 3, 10 and 30 neighbours and cosine and L2
# distance, those with the best mIoU on a held-out tenth of the training images.
# At 224 px; 1464 images to fit on, 1449 to test, 21 classes.
#
# The paper's mIoU of CAPI with standardised features: 65.2 (not run here; its table 7 names neither the size of the
# model nor the data of its pre-training).
#
# Run: python tools/test.py configs/eval/seg_knn_voc2012.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_knn_voc2012.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_voc2012_224.py',
]
