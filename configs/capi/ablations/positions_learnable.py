# CAPI, table 1(h), model A1177: learned position vectors, added to the tokens, instead of rotary ones.
# Paper: k-NN mIoU on ADE20K 30.0, attentive probe on ImageNet-1k 81.6 (not run here).
# Encoder and predictor have a table each, which takes the weight decay of all weights: our reading.
_base_ = './vitl16.py'

model = dict(
    backbone=dict(positions='learnable'),
    branches=dict(capi=dict(neck=dict(positions='learnable', grid=(14, 14)))),
)
