# TokenCut on COCO-20k; CorLoc.
#
# Reported, CorLoc of TokenCut's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 58.8, 60.7, 59.0 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_tokencut_coco20k.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/tokencut.py',
    '../_base_/datasets/boxes_coco20k.py',
]
