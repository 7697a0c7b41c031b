# The attention of DINO's CLS on Pascal VOC 2012, trainval; CorLoc.
#
# Run: python tools/test.py configs/eval/discovery_dinoseg_voc2012.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/dinoseg.py',
    '../_base_/datasets/boxes_voc2012.py',
]
