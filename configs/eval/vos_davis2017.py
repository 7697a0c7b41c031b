# Video object segmentation on DAVIS-2017 val without training: DINO's protocol (arXiv 2104.14294, section 4.2.1 and the
# released script), J (region), F (contour) and their mean as the DAVIS benchmark computes them.
#
# The numbers of Latent MIM's paper, J&F (J, F): Latent MIM ViT-B/16 65.5 (63.1, 68.0), MAE 57.5 (54.8, 60.2), data2vec
# 28.5 (27.8, 29.2), I-JEPA ViT-H/14 62.5 (60.6, 64.4) (arXiv 2407.15837, tables 6 and 9; not run here). Do not expect
# these numbers: the paper names CRW's protocol, not its settings (size of the frames, block, which encoder, context,
# radius, temperature), and has released no code of it. docs/en/video.md says more.
#
# Ours: the encoder's own mean and standard deviation (DINO's script has 0.228 for ImageNet's 0.229 of red), one rule
# for square frames, sizes of frames that patches of 14 pixels divide.
#
# Run: python tools/test.py configs/eval/vos_davis2017.py --pretrained CHECKPOINT
#  or: tools/dist_test.sh configs/eval/vos_davis2017.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/probes/propagation.py',
    '../_base_/datasets/vos_davis2017.py',
]
