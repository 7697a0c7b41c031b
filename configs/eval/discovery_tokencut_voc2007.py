# TokenCut on Pascal VOC 2007, trainval; CorLoc.
#
# Reported, CorLoc of TokenCut's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 68.8, 67.3, 68.8 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_tokencut_voc2007.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/tokencut.py',
    '../_base_/datasets/boxes_voc2007.py',
]
