# LOST on COCO-20k; CorLoc.
#
# Reported, CorLoc of LOST's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 50.7, 49.5, 50.0 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_lost_coco20k.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/lost.py',
    '../_base_/datasets/boxes_coco20k.py',
]
