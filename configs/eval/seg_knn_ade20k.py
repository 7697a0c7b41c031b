# k-NN on the patches of ADE20K, CAPI's protocol (arXiv 2502.08769, table 3 and appendix).
#
# Every pixel of a patch by the vote of the nearest training patches. Of 1, 3, 10 and 30 neighbours and cosine and L2
# distance, those with the best mIoU on a held-out tenth of the training images.
# At 224 px; 20 210 images to fit on, 2000 to test, 150 classes.
#
# The paper's mIoU with CAPI ViT-L/14: 32.1 pre-trained on LVD-142M, 29.7 on ImageNet-22k, 29.2 on ImageNet-1k, 35.2
# on Places205; of CAPI with standardised features: 33.0 (not run here; its table 7 names neither the size of the model
# nor the data of its pre-training).
#
# Run: python tools/test.py configs/eval/seg_knn_ade20k.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/seg_knn_ade20k.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/knn.py',
    '../_base_/datasets/seg_ade20k_224.py',
]
