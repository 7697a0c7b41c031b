# LOST on the collages of FashionScenes, for a CPU and about a minute; CorLoc.
#
# Run: python tools/test.py configs/eval/discovery_lost_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/lost.py',
    '../_base_/datasets/boxes_fashion.py',
]
