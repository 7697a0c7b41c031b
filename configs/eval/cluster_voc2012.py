# Clusters of the patches of each image of Pascal VOC 2012, val, and their mIoU with its classes under the best
# matching.
#
# Run: python tools/test.py configs/eval/cluster_voc2012.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/clusters.py',
    '../_base_/datasets/maps_voc2012.py',
]
