# LOST on Pascal VOC 2012, trainval; CorLoc.
#
# Reported, CorLoc of LOST's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 64.0, 57.0, 63.3 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_lost_voc2012.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/lost.py',
    '../_base_/datasets/boxes_voc2012.py',
]
