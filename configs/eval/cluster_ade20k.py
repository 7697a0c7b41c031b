# Clusters of the patches of each image of ADE20K, validation, and their mIoU with its classes under the best matching.
#
# Run: python tools/test.py configs/eval/cluster_ade20k.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/clusters.py',
    '../_base_/datasets/maps_ade20k.py',
]
