# The attention of DINO's CLS on COCO-20k; CorLoc.
#
# Run: python tools/test.py configs/eval/discovery_dinoseg_coco20k.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/dinoseg.py',
    '../_base_/datasets/boxes_coco20k.py',
]
