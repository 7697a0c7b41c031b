# LOST on Pascal VOC 2007, trainval; CorLoc.
#
# Reported, CorLoc of LOST's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 61.9, 55.5, 60.1 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_lost_voc2007.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/lost.py',
    '../_base_/datasets/boxes_voc2007.py',
]
