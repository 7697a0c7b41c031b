# Clusters of the patches of each collage of FashionScenes at its own 64 px, and their mIoU with its classes under the
# best matching; for a CPU and about a minute.
#
# Run: python tools/test.py configs/eval/cluster_fashion.py --pretrained CHECKPOINT (or a config: random weights)
_base_ = [
    '../_base_/probes/clusters.py',
    '../_base_/datasets/maps_fashion.py',
]

model = dict(resize=None)
