# Attentive probes of CAPI (arXiv 2502.08769, figures 1, 6, 10, tables 1 and 4): cls_sweep.py with the heads of the
# patches alone, for encoders of any kind.
#
# The numbers of the paper and of the released page, top-1 on ImageNet-1k of ViT-L/14: pre-trained on Places205 79.2,
# LVD-142M 83.8, ImageNet-22k 83.6, ImageNet-1k 82.9; I-JEPA ViT-H, trained at 224 px 79.4, at 448 px 79.6 (not run
# here). At 448 px: cls_attentive_448.py. Another data set: MMMIM_DATA.
#
# Run: tools/dist_train.sh configs/eval/cls_attentive.py 8 --pretrained CHECKPOINT
_base_ = './cls_sweep.py'

model = dict(features=dict(cls=None, avg_patch=None, cls_avg_patch=None))
