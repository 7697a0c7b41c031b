# TokenCut on Pascal VOC 2012, trainval; CorLoc.
#
# Reported, CorLoc of TokenCut's page, DINO ViT-S/16, ViT-S/8, ViT-B/16:
# 72.1, 71.6, 72.4 (not run here).
#
# Run: python tools/test.py configs/eval/discovery_tokencut_voc2012.py --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/tokencut.py',
    '../_base_/datasets/boxes_voc2012.py',
]
