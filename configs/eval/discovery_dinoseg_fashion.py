# The attention of DINO's CLS on the collages of FashionScenes, for a CPU and about a minute; CorLoc.
# Of small encoders the mean of the heads. Those without CLS: --cfg-options test_cfg.probe.attention=mean
#
# Run: python tools/test.py configs/eval/discovery_dinoseg_fashion.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/dinoseg.py',
    '../_base_/datasets/boxes_fashion.py',
]

test_cfg = dict(probe=dict(head='mean'))
